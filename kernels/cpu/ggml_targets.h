// SPDX-License-Identifier: Apache-2.0
// The tables of the single instruction sets, for ggml.cpp.
#pragma once

#include "kernels/cpu/ggml.h"

namespace roundhouse::kernels {

extern const GgmlCpu kGgmlScalar, kGgmlAvx2, kGgmlAvx512;

}  // namespace roundhouse::kernels
