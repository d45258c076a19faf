// SPDX-License-Identifier: Apache-2.0
// Reading a checkpoint through a format plugin.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "host/abi/loaded.h"
#include "host/abi/quantizer.h"
#include "host/base/tensor.h"

namespace roundhouse {

// An exported checkpoint, read back by the format plugin that claims it: quantized layers come out dequantized, under
// the names of the source checkpoint. Must not outlive the loaded plugin.
class ExportedCheckpoint : public TensorSource {
 public:
  // One tensor, as rh_item has it. Of a quantized layer's weight the pointers are the reader's; each may be nullptr.
  struct Item {
    uint64_t index;
    DType dtype;
    std::vector<int64_t> shape;
    std::string file;
    uint64_t offset, bytes;  // in that file; 0 bytes: not said
    bool quantized;
    const rh_encoding* encoding;
    const rh_encoding* activation_encoding;
    std::optional<Tensor> added = {};  // no file stores it, and it has no index
  };

  // `architecture` is Architecture::facts(), or an empty object when it is not known.
  ExportedCheckpoint(const LoadedFormat& format, const std::filesystem::path& folder,
                     const nlohmann::json& architecture);

  std::vector<std::string> names() const override { return names_; }
  bool contains(const std::string& name) const override { return items_.count(name) > 0; }
  // In the element type that the format declares for it, or a quantized layer's weight as decode_to() says.
  Tensor load(const std::string& name) override;
  Tensor load_matrix(const std::string& name, int64_t index) override;
  TensorInfo info(const std::string& name) override;
  // From now on quantized weights are loaded as `dtype`: F32 loses nothing that they hold.
  void decode_to(DType dtype);
  std::string location() const override { return folder_; }
  // As SafetensorsFolder's.
  void rename(const std::function<std::string(const std::string&)>& new_name);
  void add(const std::string& name, Tensor tensor);

  const Item& item(const std::string& name) const;
  // What the checkpoint records beside its tensors, by the keys of ext/model.h: "tuning", "config". May be empty.
  const nlohmann::json& facts() const { return facts_; }
  // A file that the checkpoint holds within itself ("tokenizer.json"); nullopt: it holds no such file.
  std::optional<std::string> side_file(const std::string& name);
  // As load(), but into a tensor of the item's shape; a quantized layer's weight as F32, F16 or BF16.
  void read(const std::string& name, rh_tensor& output);
  // What a quantized layer's weight is packed from, as its encoding declares it; and its input's calibrated range.
  // REQUIRES: the item has the encoding.
  TensorSet load_encoded(const std::string& name);
  TensorSet load_activation(const std::string& name);

 private:
  struct Close {
    std::string plugin;  // for messages
    void operator()(rh_reader* reader) const;
  };

  std::string folder_;
  std::string plugin_;  // for messages
  std::unique_ptr<rh_reader, Close> reader_;
  std::vector<std::string> names_;
  std::unordered_map<std::string, Item> items_;
  nlohmann::json facts_ = nlohmann::json::object();
  Tensor stack_;  // the last that load_matrix() read
  std::string stack_name_;
  static constexpr uint64_t kReadBetweenReleases = 64 << 20;
  uint64_t read_ = 0;  // bytes since pages were released
};

// The exported checkpoint that a source is, or takes its stacks from; nullptr: it is another one.
ExportedCheckpoint* exported_checkpoint(TensorSource& source);

}  // namespace roundhouse
