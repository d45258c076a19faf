// The calibrated range of a layer's input.
#pragma once

#include "plugins/formats/lib/checkpoint.h"

namespace roundhouse::formats {

// Writes what was calibrated, if anything was, as L.input_scale or L.input_global_scale, [1]: in float32, an fp8
// input's scale in the element type of the weight's scales.
void add_input_range(TensorWriter& file, const rh_encoded_layer& encoded);

}  // namespace roundhouse::formats
