// SPDX-License-Identifier: Apache-2.0
// Reads GGUF files, of version 2 and 3: this project's, llama.cpp's and others'.
#pragma once

#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "plugins/formats/gguf/ggml_type.h"
#include "plugins/formats/gguf/metadata.h"
#include "plugins/formats/gguf/names.h"

namespace roundhouse::formats {

// The GGUF files of a folder, by name; empty when it holds safetensors too. Of a file itself, or of the first of several
// parts, all parts.
std::vector<std::string> gguf_files(const std::string& path);

class GgufReader : public rh::Reader {
 public:
  // `architecture`: rh_model's, or an empty object. Throws rh::Error when a file is damaged or of a type that is not
  // known here.
  GgufReader(const std::string& folder, const Json& architecture);

  uint64_t count() const override { return items_.size(); }
  void item(uint64_t index, rh_item& out) override;
  void read(uint64_t index, rh_tensor& output) override;
  void read_encoded(uint64_t index, rh_tensor* const* tensors) override;
  // The model's configuration, and its tokenizer, in the form of a Hugging Face folder.
  const char* facts_json() override;
  bool side_file(const std::string& name, std::string& contents) override;

  // A value of the metadata; null: there is none.
  Json value(const std::string& key);
  // Whether there is a tensor of that name in the file.
  bool stores(const std::string& tensor) const { return stored_.count(tensor) > 0; }
  // The names of the tensors in the file, with their types.
  std::map<std::string, const GgmlType*> stored_types() const;
  // The shape of a tensor by its name in the file, row-major; empty: there is none.
  std::vector<int64_t> stored_shape(const std::string& tensor) const;
  // Rows of the embedding, 0: there is none. The dtype of config.json that suits it.
  int64_t vocabulary() const;
  const char* dtype_name() const;
  // What llama.cpp divides rotary frequencies by; empty: nothing.
  std::vector<float> rotary_factors();

 private:
  struct Item {
    std::string name, stored;  // in the source checkpoint, in the file
    const GgmlType* type;
    std::vector<int64_t> shape;  // row-major
    size_t file;
    uint64_t offset, bytes;
    std::unique_ptr<Item> first, second;  // what it is made of, where it is two tensors in the file
    // Of quantized tensors.
    rh::Encoding encoding;
  };
  struct File {
    std::string path;
    std::ifstream stream;
    uint64_t size;
  };

  using Stored = std::pair<GgufValue, uint64_t>;  // its type, and where it begins

  void read_header(size_t file);
  void add_values();
  bool is_transposed(const Item& item) const { return !item.type->quantized() && names_.transposed(item.stored); }
  void add(std::unique_ptr<Item> item);
  void join(std::unique_ptr<Item> first, std::unique_ptr<Item> second);
  const Item& at(uint64_t index) const;
  static void decode(const Item& item, const std::vector<uint8_t>& bytes, void* output, rh_data_type type);
  std::vector<uint8_t> bytes_of(const Item& item);
  std::vector<uint8_t> floats_of(const Item& item);
  std::vector<uint8_t> rows_of(const Item& item);

  Names names_;
  std::vector<File> files_;
  std::vector<std::unique_ptr<Item>> items_, stacks_;
  std::map<std::string, Stored> values_;       // of the first file
  std::map<std::string, const Item*> stored_;  // by their names in the file
  const Item* rotary_factors_ = nullptr;
  std::vector<std::unique_ptr<Item>> left_out_;  // what follows from the configuration
  std::string facts_;
};

}  // namespace roundhouse::formats
