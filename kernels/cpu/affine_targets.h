// SPDX-License-Identifier: Apache-2.0
// The tables of the single instruction sets, for affine.cpp.
#pragma once

#include "kernels/cpu/affine.h"

namespace roundhouse::kernels {

extern const AffineCpu kAffineScalar, kAffineAvx2, kAffineAvx512;

}  // namespace roundhouse::kernels
