// Reads a checkpoint whose quantized layers are stored as int_layout.h says.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "plugins/formats/lib/checkpoint.h"
#include "plugins/formats/lib/int_layout.h"

namespace roundhouse::formats {

class IntReader : public rh::Reader {
 public:
  // `config` is the folder's config.json, with a quantization_config. Throws rh::Error when the checkpoint is damaged.
  IntReader(const std::string& folder, const Json& config, IntLayout layout);

  uint64_t count() const override { return items_.size(); }
  void item(uint64_t index, rh_item& out) override;
  void read(uint64_t index, rh_tensor& output) override;
  // codes, scale, and zero_point unless the layer is symmetric.
  void read_encoded(uint64_t index, rh_tensor* const* tensors) override;

 private:
  struct Layer {
    StoredInt stored;
    std::string weight_name;
    std::string parameters;
    int64_t shape[2];
    rh::Specs specs;
    rh_encoding encoding;
    rh_scheme scheme;
  };
  struct Item {
    const TensorReader::Entry* tensor;  // nullptr: a layer
    std::unique_ptr<Layer> layer;
  };

  // `configured`: the group size that config.json gives it.
  void describe(Layer& layer, int64_t configured);
  const Item& at(uint64_t index) const;
  const Layer& layer_at(uint64_t index) const;

  const TensorReader tensors_;
  const IntLayout layout_;
  const rh_data_type dtype_;
  std::vector<Item> items_;
};

}  // namespace roundhouse::formats
