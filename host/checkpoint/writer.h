// SPDX-License-Identifier: Apache-2.0
// Writing a Hugging Face checkpoint: tensors written into safetensors files as they come.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "host/base/tensor.h"
#include "host/checkpoint/output.h"

namespace roundhouse {

// A tensor that is to be written.
struct TensorSpec {
  std::string name;
  DType dtype;
  std::vector<int64_t> shape;
};

// Knows all tensors before the first one comes: each file's header is written first, and every tensor at its place,
// whatever the order they come in. A file whose tensors are all there is committed at once.
//
// One file is model.safetensors; several are model-0000i-of-0000N.safetensors with model.safetensors.index.json. The
// same tensors give the same bytes: those of the safetensors library. Not thread-safe; after an Error it can only be
// destroyed.
class SafetensorsWriter {
 public:
  // Divides the tensors, in this order, into files of at most `max_shard_bytes` of data (> 0); a larger tensor gets one
  // of its own. `metadata` becomes "__metadata__" of every file; empty: none. `saved`: what save() gave to an earlier
  // writer of the same tensors in this folder, to go on from there; empty: from the beginning.
  // Throws Error for a name that is there twice, and when the folder does not hold what was saved.
  SafetensorsWriter(OutputFolder& folder, uint64_t max_shard_bytes, const std::map<std::string, std::string>& metadata,
                    const std::vector<TensorSpec>& tensors, std::string_view saved = {});

  // Of all files, once they are written.
  uint64_t bytes() const;

  // `data` is contiguous, little-endian, not needed after the call. Throws Error for a tensor that was not announced,
  // not so, or that has come before.
  void add(const std::string& name, DType dtype, const std::vector<int64_t>& shape, const void* data);

  // Forces to the disk what was added, and returns what a writer needs to go on. Throws Error.
  std::string save();

  // Writes the index. REQUIRES: called once. Throws Error when a tensor has not come.
  void finish();

 private:
  struct Placed {
    DType dtype;
    std::vector<int64_t> shape;
    size_t shard;
    uint64_t offset;  // in the file
    bool added;
  };
  struct Shard {
    std::vector<std::string> names;  // in the order of the file
    std::string head;                // the file's beginning: the header with its length
    size_t missing = 0;              // tensors that have not come
    std::optional<OutputFolder::File> file;
  };

  void divide(const std::vector<TensorSpec>& tensors, uint64_t max_shard_bytes);
  std::string head(const Shard& shard, const std::string& metadata);  // sets the tensors' offsets
  std::string file_name(size_t shard) const;
  void restore(std::string_view saved);

  OutputFolder& folder_;
  std::map<std::string, Placed> tensors_;  // by name
  std::vector<Shard> shards_;
  uint64_t total_bytes_ = 0;
  bool finished_ = false;
};

// Writes one safetensors file, in this order. Throws Error.
void write_safetensors_file(const std::filesystem::path& file,
                            const std::vector<std::pair<std::string, Tensor>>& tensors,
                            const std::map<std::string, std::string>& metadata = {});

}  // namespace roundhouse
