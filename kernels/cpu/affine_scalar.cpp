#include "kernels/cpu/affine_targets.h"
#include "kernels/cpu/lanes_scalar.h"
// The kernels need the lanes above.
#include "kernels/cpu/affine_kernels.h"

namespace roundhouse::kernels {

const AffineCpu kAffineScalar{"scalar", range, forward, encode, decode, gradients<AffineGradients>, gradients<AffineStep>};

}  // namespace roundhouse::kernels
