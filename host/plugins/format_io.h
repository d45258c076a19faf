// Writing and reading checkpoints through format plugins.
#pragma once

#include <roundhouse/format.h>

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <unordered_map>
#include <vector>

#include "host/base/tensor.h"
#include "host/plugins/catalogue.h"
#include "host/plugins/export_session.h"
#include "host/plugins/quantizer.h"

namespace roundhouse {

// Throws Error with the format's reason when it cannot hold the layer. query.struct_size is filled in here.
void check_format(Catalogue& catalogue, const std::string& format, rh_format_query query);

// What the format writes once for a whole checkpoint, with the value that this layer needs; "": nothing. Throws Error.
std::string ask_uniform(Catalogue& catalogue, const std::string& format, rh_format_query query);

// The data types that a format wants for layers of the plan: rh_assign in format.h. An empty object when it has no
// wishes. Throws Error with the format's reason, or when the format's answer is not of that form.
nlohmann::json ask_assignment(Catalogue& catalogue, const std::string& format, const nlohmann::json& plan,
                              const nlohmann::json& architecture, const nlohmann::json& options);

// One export through one format: add, many times, then finish. Without finish() the destructor aborts. Every failure
// throws Error naming plugin, path, call and layer; after one, only the destructor may be called.
// Must not outlive catalogue and session.
class FormatWriter {
 public:
  FormatWriter(Catalogue& catalogue, const std::string& format, const ExportSession& session);

  // layer.struct_size is filled in here.
  void add_layer(rh_encoded_layer layer);
  void add_tensor(const std::string& name, const rh_tensor& tensor);
  void finish();

 private:
  struct Abort {
    std::string plugin;  // for messages
    void operator()(rh_writer* writer) const;
  };

  std::string plugin_;  // for messages
  std::unique_ptr<rh_writer, Abort> writer_;
};

// An exported checkpoint, read back by the format plugin that claims it: quantized layers come out dequantized, under
// the names of the source checkpoint. Must not outlive the catalogue.
class ExportedCheckpoint : public TensorSource {
 public:
  // One tensor, as rh_item has it. Of a quantized layer's weight the pointers are the reader's; each may be nullptr.
  struct Item {
    uint64_t index;
    DType dtype;
    std::vector<int64_t> shape;
    bool quantized;
    const rh_encoding* encoding;
    const rh_encoding* activation_encoding;
    const rh_scheme* scheme;
  };

  // `architecture` is Architecture::facts(), or an empty object when it is not known.
  ExportedCheckpoint(Catalogue& catalogue, const std::string& format, const std::filesystem::path& folder,
                     const nlohmann::json& architecture);

  std::vector<std::string> names() const override { return names_; }
  bool contains(const std::string& name) const override { return items_.count(name) > 0; }
  // In the element type that the format declares for it.
  Tensor load(const std::string& name) override;
  std::string location() const override { return folder_; }

  const Item& item(const std::string& name) const;
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
};

// Asks every loaded format whether the checkpoint is its own; the surest one opens it, and `format_id` (when not NULL)
// becomes its id. When none does, the folder is an original checkpoint and `format_id` becomes empty; but when its
// config.json says that it is quantized, throws Error.
std::unique_ptr<TensorSource> open_checkpoint(Catalogue& catalogue, const std::filesystem::path& folder,
                                              const nlohmann::json& architecture, std::string* format_id = nullptr);

}  // namespace roundhouse
