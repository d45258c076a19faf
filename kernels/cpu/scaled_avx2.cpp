// SPDX-License-Identifier: Apache-2.0
// In this order: the kernels are written in terms of the lanes.
// clang-format off
#include "kernels/cpu/lanes_avx2.h"
#include "kernels/cpu/scaled_kernels.h"
// clang-format on
#include "kernels/cpu/scaled_targets.h"

namespace roundhouse::kernels {

constinit const ScaledCpu kScaledAvx2 = scaled_table("avx2");

}  // namespace roundhouse::kernels
