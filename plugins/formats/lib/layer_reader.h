// SPDX-License-Identifier: Apache-2.0
// A checkpoint in safetensors whose quantized layers are stored as a weight, or a packed one, with its scales.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <roundhouse/encoding/encoding.hpp>
#include <string>
#include <vector>

#include "plugins/formats/lib/checkpoint.h"

namespace roundhouse::formats {

constexpr rh_data_type kF8E4M3{RH_KIND_FLOAT8_E4M3FN, 8, 1};
constexpr rh_data_type kF8E5M2{RH_KIND_FLOAT8_E5M2, 8, 1};
inline bool is_fp8(rh_data_type dtype) { return rh::same_type(dtype, kF8E4M3) || rh::same_type(dtype, kF8E5M2); }

// What an engine does to a layer's input.
struct StoredActivation {
  rh::Encoding encoding;             // empty: nothing
  const rh_tensor* range = nullptr;  // one element of f32, f16 or bf16; nullptr: nothing was calibrated
};

// A quantized layer of an opened checkpoint.
class StoredLayer {
 public:
  virtual ~StoredLayer() = default;
  StoredLayer(const StoredLayer&) = delete;
  StoredLayer& operator=(const StoredLayer&) = delete;

  void describe(rh_item& out) const;
  // Dequantizes into f32, f16 or bf16; `output` has the layer's shape.
  virtual void read(rh_tensor& output) const;
  virtual void read_encoded(rh_tensor* const* tensors) const = 0;
  void read_activation(rh_tensor* const* tensors) const;

  // Throws rh::Error unless a range is one number.
  void set_activation(StoredActivation activation);

  const std::string& name() const { return name_; }
  int64_t rows() const { return shape_[0]; }
  int64_t cols() const { return shape_[1]; }

 protected:
  // `dtype`: the element type to decode into.
  StoredLayer(std::string name, int64_t rows, int64_t cols, rh_data_type dtype);
  // Called by the constructor.
  void set_encoding(rh::Encoding encoding) { encoding_ = std::move(encoding); }
  [[noreturn]] void damaged(const std::string& what) const;

 private:
  std::string name_;
  std::string weight_name_;
  int64_t shape_[2];
  rh_data_type dtype_;
  rh::Encoding encoding_;
  StoredActivation activation_;
};

// Copies a stored tensor's bytes, or values, to one of the same size. `name` is for the message.
void copy_bytes(const void* from, size_t size, const rh_tensor& to, const std::string& name);

// A format that is only read: it lists no encoding, so that nothing is asked of it but to open checkpoints.
class ReadOnlyFormat : public rh::Format {
 public:
  ReadOnlyFormat(const char* id, const char* summary) : Format(id, summary, {}) {}
  void check(const rh_format_layer&, const char*) const override { refuse(); }
  void plan(const rh_plan&, std::vector<rh::Answer>&) const override { refuse(); }
  std::unique_ptr<rh::Writer> begin(const rh_export&) const override { refuse(); }

 private:
  [[noreturn]] static void refuse() {
    throw rh::Error(RH_INVALID_ARGUMENT, "this format is only read; choose another one for the output");
  }
};

class LayerReader : public rh::Reader {
 public:
  // By what follows the layer's name and the dot: "weight", "weight_scale".
  using Tensors = std::map<std::string, const rh_tensor*, std::less<>>;
  using MakeLayer = std::function<std::unique_ptr<StoredLayer>(const std::string& name, const Tensors& tensors)>;

  // A layer is quantized that has a "weight_scale", "weight_scale_inv", "weight_packed", "qweight" or "qzeros", and each
  // expert of a stack, of 8-bit floats [experts, rows, cols] NAME with a NAME_scale_inv or NAME_scale, or of bytes
  // [experts, rows, groups, bytes] NAME_blocks with NAME_scales ("weight_packed", "weight_scale"): of
  // ....experts.gate_up_proj the fourth is ....experts.3.gate_up_proj. All other tensors are as they are stored.
  // `quantization`: config.json's; when it has a kv_cache_scheme, the scales of the cache of keys and values are left out.
  LayerReader(const std::string& folder, const Json& quantization, const MakeLayer& make_layer);

  uint64_t count() const override { return items_.size(); }
  void item(uint64_t index, rh_item& out) override;
  void read(uint64_t index, rh_tensor& output) override;
  void read_encoded(uint64_t index, rh_tensor* const* tensors) override;
  void read_activation(uint64_t index, rh_tensor* const* tensors) override;
  const char* facts_json() override { return facts_.c_str(); }

 private:
  struct Item {
    const TensorReader::Entry* tensor;  // nullptr: a layer
    std::unique_ptr<StoredLayer> layer;
    const rh_stack* stack = nullptr;
  };
  struct Expert {  // what an item of a stack points to
    std::string stack_name;
    std::vector<std::unique_ptr<rh::View>> parts;
    rh_stack stack;
  };
  void add_stack(const std::string& stack, int64_t count, const MakeLayer& make_layer);
  const Item& at(uint64_t index) const;
  const StoredLayer& layer_at(uint64_t index) const;

  const TensorReader tensors_;
  const std::string facts_;
  std::vector<Item> items_;
  std::vector<std::unique_ptr<Expert>> experts_;
};

// Of a quantized cache of keys and values, or of what is around it.
bool is_cache_scale(const std::string& tensor);

// The tensors of each module that has a weight, packed or not, or a part of a packed one, by the module's name.
std::map<std::string, LayerReader::Tensors> stored_modules(const TensorReader& tensors);
// Whether these are a quantized layer's.
bool is_packed(const LayerReader::Tensors& tensors);

// The tensor of that name, or nullptr.
const rh_tensor* find(const LayerReader::Tensors& tensors, std::string_view name);

}  // namespace roundhouse::formats
