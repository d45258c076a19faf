#include "kernels/cpu/affine_targets.h"
#include "kernels/cpu/lanes_avx2.h"
// The kernels need the lanes above.
#include "kernels/cpu/affine_kernels.h"

namespace roundhouse::kernels {

const AffineCpu kAffineAvx2{"avx2", range, forward, encode, decode, gradients<AffineGradients>, gradients<AffineStep>};

}  // namespace roundhouse::kernels
