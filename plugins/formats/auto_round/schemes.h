// SPDX-License-Identifier: Apache-2.0
// What AutoRound's configuration says about a quantized layer, and how that is stored.
#pragma once

#include <string>

#include "plugins/formats/lib/float_layout.h"
#include "plugins/formats/lib/int_plan.h"
#include "plugins/formats/lib/lint.h"

namespace roundhouse::formats {

struct LayerScheme {
  Json fields;          // bits, group_size, sym, data_type and, of the input, act_bits and so on
  std::string packing;  // the checkpoint's packing_format; "": it has none
};

// An integer layer's. Engines read one packing_format for the whole checkpoint, which must suit all layers.
LayerScheme int_layer_scheme(const IntPlan& plan, const rh_format_layer& layer);

// A float layer's. Throws rh::Error when AutoRound's loaders know no such layer.
LayerScheme float_layer_scheme(const FloatEncoding& encoding, const rh_format_layer& layer);

// What config.json says beside the layers' fields: fmt, activation_scheme, weight_block_size.
void add_fp8_keys(const LayerScheme& scheme, Json& config);

// A float layer of an opened checkpoint, by its tensors and its quantization_config.
std::unique_ptr<StoredLayer> float_layer(const std::string& name, const LayerReader::Tensors& tensors,
                                         const Json& quantization, rh_data_type dtype);

// What a configuration with these fields says of a float layer.
Said float_said(const Json& fields);

}  // namespace roundhouse::formats
