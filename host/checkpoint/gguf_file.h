// SPDX-License-Identifier: Apache-2.0
// GGUF, the container of ggml's files: their tables, and tensors of float32.
// https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "host/base/tensor.h"
#include "host/checkpoint/mapped_file.h"

namespace roundhouse {

// A file of version 2 or 3, little-endian. Its tables are read and checked at once, the data when they are used.
class GgufFile {
 public:
  struct Entry {
    std::string name;
    std::vector<int64_t> shape;  // outermost first, as everywhere here; the file has them innermost first
    uint32_t type;               // ggml_type
    uint64_t begin;              // of its data in the file
  };

  static bool is_gguf(const MappedFile& file);
  // Throws Error for what is damaged or of another version.
  explicit GgufFile(std::shared_ptr<const MappedFile> file);

  // Keys and values; what JSON has no type for (u8, f32, ...) is its nearest number.
  const nlohmann::json& metadata() const { return metadata_; }
  const std::vector<Entry>& tensors() const { return tensors_; }
  // Borrows the mapping, read-only. Throws Error for a tensor that is not float32, or reaches beyond the file.
  Tensor load_f32(const Entry& entry) const;

 private:
  std::shared_ptr<const MappedFile> file_;
  nlohmann::json metadata_;
  std::vector<Entry> tensors_;
};

// Writes a file of float32 tensors, in this order. Values of `metadata`: texts, unsigned numbers (as u32), lists of
// texts. The file appears whole or not at all. Throws Error.
void write_gguf_file(const std::filesystem::path& path, const nlohmann::ordered_json& metadata,
                     const std::vector<std::pair<std::string, Tensor>>& tensors);

}  // namespace roundhouse
