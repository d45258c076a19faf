// SPDX-License-Identifier: Apache-2.0
// In this order: the kernels are written in terms of the lanes.
// clang-format off
#include "kernels/cpu/lanes_avx512.h"
#include "kernels/cpu/scaled_kernels.h"
// clang-format on
#include "kernels/cpu/scaled_targets.h"

namespace roundhouse::kernels {

constinit const ScaledCpu kScaledAvx512 = scaled_table("avx512");

}  // namespace roundhouse::kernels
