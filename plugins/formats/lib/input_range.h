// SPDX-License-Identifier: Apache-2.0
// The fixed range of a layer's input.
#pragma once

#include "plugins/formats/lib/checkpoint.h"

namespace roundhouse::formats {

// Stores a fixed scale of the input, calibrated or 1, as L.input_scale or L.input_global_scale, [1]: in float32, an fp8
// input's scale in the element type of the weight's scales.
void add_input_range(TensorWriter& out, const rh_encoded_layer& encoded);

}  // namespace roundhouse::formats
