// SPDX-License-Identifier: Apache-2.0
// In this order: the kernels are written in terms of the lanes.
// clang-format off
#include "kernels/cpu/lanes_avx2.h"
#include "kernels/cpu/affine_kernels.h"
#include "kernels/cpu/affine_search_kernels.h"
// clang-format on
#include "kernels/cpu/affine_targets.h"

namespace roundhouse::kernels {

const AffineCpu kAffineAvx2{
    "avx2", range, forward, encode, decode, gradients<AffineGradients>, gradients<AffineStep>, input_gradient, search};

}  // namespace roundhouse::kernels
