// SPDX-License-Identifier: Apache-2.0
// Between encodings and what compressed-tensors calls a quantization scheme: QuantizationArgs of the weights and of the
// input, and the name of the layout.
#pragma once

#include <optional>
#include <string>

#include "plugins/formats/lib/common_groups.h"
#include "plugins/formats/lib/float_layout.h"

namespace roundhouse::formats {

struct LayerScheme {
  std::string format;  // "pack-quantized"
  Json weights;
  Json inputs;  // null: not quantized

  bool operator==(const LayerScheme&) const = default;
};

// Throws rh::Error, with the reason, when compressed-tensors cannot say it. `groups`: those of the plan's other layers.
LayerScheme layer_scheme(const rh_format_layer& layer, const CommonGroups& groups);

// What config.json cannot say of the layer's input, for a warning; empty: nothing.
std::string unsaid_of_input(const rh_format_layer& layer);

// QuantizationArgs as compressed-tensors reads them: what is not said has its default, and names are in lower case.
// `where` begins the error about one that is none. null: stays null.
Json complete_arguments(const Json& said, const std::string& where);

// What compressed-tensors refuses of complete arguments, in words that follow the path of these; empty: nothing. `format`: of
// weights; empty: they are of inputs.
std::string refused_arguments(const Json& arguments, const std::string& format);

// The encoding of weights whose scheme says "float". `scale`: the stored scale.
FloatEncoding float_weights(const LayerScheme& scheme, const rh_tensor& scale);
// nullopt: the input is not quantized. `cols`: of the layer.
std::optional<StoredActivation> stored_activation(const LayerScheme& scheme, int64_t cols,
                                                  const LayerReader::Tensors& tensors);

}  // namespace roundhouse::formats
