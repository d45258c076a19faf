// Reads GGUF files, of version 2 and 3: this project's, llama.cpp's and others'.
#pragma once

#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "plugins/formats/gguf/ggml_type.h"
#include "plugins/formats/gguf/names.h"

namespace roundhouse::formats {

// The GGUF files of a folder, by name; empty when it holds safetensors too, or is no folder.
std::vector<std::string> gguf_files(const std::string& folder);

class GgufReader : public rh::Reader {
 public:
  // `architecture`: rh_model's, or an empty object. Throws rh::Error when a file is damaged or of a type that is not
  // known here.
  GgufReader(const std::string& folder, const Json& architecture);

  uint64_t count() const override { return items_.size(); }
  void item(uint64_t index, rh_item& out) override;
  void read(uint64_t index, rh_tensor& output) override;
  void read_encoded(uint64_t index, rh_tensor* const* tensors) override;

 private:
  struct Item {
    std::string name;  // in the source checkpoint
    const GgmlType* type;
    std::vector<int64_t> shape;  // row-major
    int64_t heads;               // of interleaved rows, 0: they are not
    size_t file;
    uint64_t offset, bytes;
    // Of quantized tensors.
    rh::Encoding encoding;
  };
  struct File {
    std::string path;
    std::ifstream stream;
    uint64_t size;
  };

  void read_header(size_t file);
  const Item& at(uint64_t index) const;
  std::vector<uint8_t> rows_of(const Item& item);

  Names names_;
  std::vector<File> files_;
  std::vector<std::unique_ptr<Item>> items_;
};

}  // namespace roundhouse::formats
