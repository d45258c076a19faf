// SPDX-License-Identifier: Apache-2.0
// The tensors that a data type emitted.
#pragma once

#include <roundhouse/helper/floats.h>

#include <roundhouse/files.hpp>
#include <vector>

#include "kernels/floats.h"

namespace roundhouse::formats {

using rh::find_tensor;
using rh::require_tensor;

// `values` in an element type of f32, f16 or bf16, rounded to nearest.
std::vector<uint8_t> rounded(const std::vector<float>& values, rh_data_type dtype);

}  // namespace roundhouse::formats
