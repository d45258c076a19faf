// SPDX-License-Identifier: Apache-2.0
// The two JSON texts of a safetensors checkpoint: a file's header, and the index of a sharded one.
//
// A safetensors file is: u64 little-endian length of the header; the header, a JSON object, padded with spaces; the
// data. The header maps a tensor's name to {"dtype": "F16", "shape": [2, 3], "data_offsets": [begin, end]}, the offsets
// counted from the data's first byte; "__metadata__" maps text to text. (github.com/huggingface/safetensors, "Format")
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "host/checkpoint/mapped_file.h"

namespace roundhouse {

struct SafetensorsHeader {
  struct Tensor {
    std::string name;
    std::string dtype;  // as the file says; it may be one that this host does not know
    std::vector<int64_t> shape;
    uint64_t begin = 0, end = 0;  // bytes from the file's first byte
  };
  std::map<std::string, std::string> metadata;
  std::vector<Tensor> tensors;  // in the order of their data
};

// The longest header that the safetensors library reads.
inline constexpr uint64_t kMaxSafetensorsHeader = 100'000'000;

// Checked: the data follow one another without overlaps or holes and end with the file; each tensor's size is what its
// shape and type say. Throws Error.
SafetensorsHeader parse_safetensors_header(const MappedFile& file);

// The weight map of model.safetensors.index.json: tensor name -> file name, a plain name without folders. Throws Error.
std::map<std::string, std::string> parse_safetensors_index(const MappedFile& file);

}  // namespace roundhouse
