// Writing a Hugging Face checkpoint: tensors streamed into safetensors files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "host/base/tensor.h"
#include "host/checkpoint/output.h"

namespace roundhouse {

// add() writes a tensor to the disk at once, so that memory does not grow with the checkpoint. A header stands before
// its data and is known only when the file is full: the data wait in a nameless spool file and are copied behind the
// header. The disk therefore holds the output and at most one file more.
//
// One file is model.safetensors; several are model-0000i-of-0000N.safetensors with model.safetensors.index.json. The
// same calls give the same bytes: those of the safetensors library. Not thread-safe; after an Error it can only be
// destroyed.
class SafetensorsWriter {
 public:
  // A file takes at most `max_shard_bytes` of data (> 0), but for a larger tensor, which gets one of its own.
  // `metadata` becomes "__metadata__" of every file; empty: none.
  SafetensorsWriter(OutputFolder& folder, uint64_t max_shard_bytes, std::map<std::string, std::string> metadata);

  // `data` is contiguous, little-endian, not needed after the call. Throws Error for a name that came before.
  void add(const std::string& name, DType dtype, const std::vector<int64_t>& shape, const void* data);

  // Gives the files their names and writes the index. REQUIRES: called once, after the last add(). Throws Error.
  void finish();

 private:
  struct Pending {
    std::string name;
    DType dtype;
    std::vector<int64_t> shape;
    uint64_t offset, bytes;  // in the spool
  };

  void close_shard();
  std::string header() const;  // of pending_, in its order

  OutputFolder& folder_;
  uint64_t max_shard_bytes_;
  std::map<std::string, std::string> metadata_;
  std::unordered_set<std::string> names_;
  std::optional<AppendFile> spool_;               // of the open shard
  std::vector<Pending> pending_;                  // tensors in the spool
  std::vector<std::vector<std::string>> shards_;  // names of the tensors in each closed shard
  uint64_t total_bytes_ = 0;
  bool finished_ = false;
};

// Writes one safetensors file, in this order. Throws Error.
void write_safetensors_file(const std::filesystem::path& file,
                            const std::vector<std::pair<std::string, Tensor>>& tensors);

}  // namespace roundhouse
