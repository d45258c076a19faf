// SPDX-License-Identifier: Apache-2.0
#include "plugins/formats/lib/input_range.h"

#include <roundhouse/encoding/scaled_fp8.hpp>

#include "plugins/formats/lib/encoded_layer.h"
#include "plugins/formats/lib/text.h"

namespace roundhouse::formats {

void add_input_range(TensorWriter& out, const rh_encoded_layer& encoded) {
  const rh_format_layer& layer = *encoded.layer;
  if (!layer.activation_encoding) return;
  if (rh::is(*layer.activation_encoding, rh::ScaledFp8::kId) &&
      rh::ScaledFp8::of(*layer.activation_encoding).unit_scale)
    return out.add(cat(layer.name, ".input_scale"), rh::kF32, {1}, [] { return std::vector{1.0f}; });
  if (layer.activation_encoding->tensor_count == 0) return;
  const std::string range = layer.activation_encoding->tensors[0]->name;
  const rh_tensor* weight_scale = find_tensor(encoded, "scale");
  const bool as_weight = range == "scale" && weight_scale && weight_scale->dtype.kind != RH_KIND_UINT;
  const rh_data_type dtype = as_weight ? weight_scale->dtype : rh::kF32;
  const rh_tensor* value = rh::at(encoded.activation_tensors, 0);
  rh::require(value, cat(layer.name, ": no calibrated range of its input was sent"));
  out.add(cat(layer.name, ".input_", range), dtype, {1}, [&] { return rounded({rh_load(value, 0)}, dtype); });
}

}  // namespace roundhouse::formats
