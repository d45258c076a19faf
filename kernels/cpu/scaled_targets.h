// SPDX-License-Identifier: Apache-2.0
// The tables of the single instruction sets, for scaled.cpp.
#pragma once

#include "kernels/cpu/scaled.h"

namespace roundhouse::kernels {

extern const ScaledCpu kScaledScalar, kScaledAvx2, kScaledAvx512;

}  // namespace roundhouse::kernels
