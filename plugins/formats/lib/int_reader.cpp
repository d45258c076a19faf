// SPDX-License-Identifier: Apache-2.0
#include "plugins/formats/lib/int_reader.h"

#include <roundhouse/encoding/affine_int.hpp>

namespace roundhouse::formats {
namespace {

int64_t group_size_at(const Json& scheme, int64_t otherwise, const char* key = "group_size") {
  const auto found = scheme.find(key);
  return found != scheme.end() && found->is_number_integer() ? found->get<int64_t>() : otherwise;
}

// The group size that config.json gives a layer by its exact name, or all layers.
int64_t group_size(const Json& quantization, const std::string& layer) {
  // "q_group_size": AutoAWQ's word.
  const int64_t common = group_size_at(quantization, group_size_at(quantization, -1, "q_group_size"));
  const auto extra = quantization.find("extra_config");
  return extra != quantization.end() && extra->contains(layer) ? group_size_at(extra->at(layer), common) : common;
}

class IntLayer : public StoredLayer {
 public:
  IntLayer(const std::string& name, const StoredInt& stored, IntLayout layout, rh_data_type dtype)
      : StoredLayer(name, stored.rows, stored.cols, dtype), stored_(stored), layout_(layout) {
    rh::AffineInt made(stored.bits, stored.symmetric, 1, stored.group_cols);
    made.scale = stored.scales->dtype;
    made.group_index = stored.g_idx != nullptr;
    set_encoding({made, stored.rows, stored.cols});
  }

  void read_encoded(rh_tensor* const* tensors) const override {
    const AffineLayer unpacked = unpack(stored_, layout_);
    copy_bytes(unpacked.codes.data(), unpacked.codes.size(), *tensors[0], name());
    copy_bytes(unpacked.scale.data(), unpacked.scale.size() * sizeof(uint16_t), *tensors[1], name());
    if (!stored_.symmetric) copy_bytes(unpacked.zero_point.data(), unpacked.zero_point.size(), *tensors[2], name());
    if (stored_.g_idx) {
      const rh_tensor& index = *tensors[stored_.symmetric ? 2 : 3];
      copy_bytes(stored_.g_idx->data, rh::bytes(*stored_.g_idx), index, name());
    }
  }

 private:
  const StoredInt stored_;
  const IntLayout layout_;
};

}  // namespace

LayerReader::MakeLayer int_layer_maker(const std::string& folder, const Json& config, const Json& quantization,
                                       IntLayout layout) {
  const rh_data_type dtype = config_dtype(config, folder);
  return [&quantization, layout, dtype](const std::string& name, const LayerReader::Tensors& tensors) {
    StoredInt stored;
    stored.name = name;
    stored.qweight = find(tensors, "qweight");
    stored.qzeros = find(tensors, "qzeros");
    stored.scales = find(tensors, "scales");
    stored.g_idx = find(tensors, "g_idx");
    stored.resolve(layout, group_size(quantization, name));
    return std::make_unique<IntLayer>(name, stored, layout, dtype);
  };
}

std::unique_ptr<LayerReader> int_reader(const std::string& folder, const Json& config, const Json& quantization,
                                        IntLayout layout) {
  return std::make_unique<LayerReader>(folder, quantization, int_layer_maker(folder, config, quantization, layout));
}

}  // namespace roundhouse::formats
