#include "kernels/cpu/affine_targets.h"
#include "kernels/cpu/lanes_avx512.h"
// The kernels need the lanes above.
#include "kernels/cpu/affine_kernels.h"

namespace roundhouse::kernels {

const AffineCpu kAffineAvx512{"avx512", range, forward, encode, decode, gradients<AffineGradients>, gradients<AffineStep>};

}  // namespace roundhouse::kernels
