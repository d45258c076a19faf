// SPDX-License-Identifier: Apache-2.0
// In this order: the kernels are written in terms of the lanes.
// clang-format off
#include "kernels/cpu/lanes_scalar.h"
#include "kernels/cpu/scaled_kernels.h"
// clang-format on
#include "kernels/cpu/scaled_targets.h"

namespace roundhouse::kernels {

constinit const ScaledCpu kScaledScalar = scaled_table("scalar");

}  // namespace roundhouse::kernels
