// clang-format off: the kernels are written in terms of the lanes
#include "kernels/cpu/affine_kernels.h"
#include "kernels/cpu/lanes_avx512.h"
// clang-format on
#include "kernels/cpu/affine_targets.h"

namespace roundhouse::kernels {

const AffineCpu kAffineAvx512{
    "avx512", range, forward, encode, decode, gradients<AffineGradients>, gradients<AffineStep>};

}  // namespace roundhouse::kernels
