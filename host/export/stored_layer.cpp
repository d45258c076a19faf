// SPDX-License-Identifier: Apache-2.0
#include "host/export/stored_layer.h"

#include <cassert>

namespace roundhouse {

void with_stored_layer(const LayerPlan& layer, ExportedCheckpoint& source, TensorSource& tensors,
                       const std::function<void(const EncodedLayer&)>& body) {
  const std::string weight = layer.info.name + ".weight", bias = layer.info.name + ".bias";
  const ExportedCheckpoint::Item& item = source.item(weight);
  assert(item.encoding);
  const TensorSet encoded = source.load_encoded(weight);
  const auto decode = [&source, weight](const rh_tensor* const*, rh_tensor& output) { source.read(weight, output); };
  EncodedLayer stored{layer, *item.encoding, encoded.tensors(), tensors.contains(bias) ? tensors.load(bias) : Tensor(),
                      decode};
  stored.activation_encoding = item.activation_encoding;
  if (item.activation_encoding) stored.activation_tensors = source.load_activation(weight).tensors();
  body(stored);
}

}  // namespace roundhouse
