// SPDX-License-Identifier: Apache-2.0
// Reading a Hugging Face checkpoint: safetensors files, mapped and never copied.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "host/base/tensor.h"
#include "host/checkpoint/mapped_file.h"
#include "host/checkpoint/safetensors_header.h"

namespace roundhouse {

// A tensor that two shards hold, and not with the same type, shape and bytes.
struct DifferingCopies {
  std::string tensor;
  std::filesystem::path other, kept;  // names of the files; what the second holds counts
};

// A folder with model.safetensors, or shards with model.safetensors.index.json, or one *.safetensors of any name; or
// such a file itself. All headers are read and checked at once, the data when they are used.
class SafetensorsFolder : public TensorSource {
 public:
  // Throws Error for what is missing, damaged, or in another format.
  explicit SafetensorsFolder(std::filesystem::path folder_or_file);

  // The stored tensors, file by file, in the order of their data.
  std::vector<std::string> names() const override;
  // Aliases count: a shared tensor is stored once, and "__metadata__" maps its other names to the stored one.
  bool contains(const std::string& name) const override;
  // The tensor borrows the mapping, read-only, and keeps it alive; data that is not aligned to its element size, as old
  // files have, is copied.
  Tensor load(const std::string& name) override;
  // As load(), and so that no more than the matrix is read.
  Tensor load_matrix(const std::string& name, int64_t index) override;
  // As load(), for tensors that are held long before they are read: nothing is read ahead, and the pages stay resident
  // until release_pages().
  Tensor map(const std::string& name);
  void release_pages() const override;
  std::string location() const override { return location_.string(); }

  // Throws Error like load().
  TensorInfo info(const std::string& name) override;
  // Gives every tensor the name that new_name(its own) says; those with an empty one are left out.
  void rename(const std::function<std::string(const std::string&)>& new_name);
  // Adds a tensor that no file stores. REQUIRES: !contains(name).
  void add(const std::string& name, Tensor tensor);
  // Reads the tensors that several shards hold. Called before rename().
  std::vector<DifferingCopies> differing_copies() const;
  // The files with tensors that are read.
  std::vector<std::filesystem::path> files() const;
  // "__metadata__" of the first file.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  // Where a tensor's data begin and end in their file, and who keeps them there.
  using Hold = std::function<std::shared_ptr<const void>(const std::shared_ptr<const MappedFile>&, uint64_t, uint64_t)>;
  Tensor borrow(const std::string& name, const Hold& hold);
  struct Stored {
    SafetensorsHeader::Tensor tensor;
    std::shared_ptr<const MappedFile> file;  // null: it was added
    Tensor made;
  };

  void add_file(std::shared_ptr<const MappedFile> file, SafetensorsHeader header);
  void add_shards(const std::filesystem::path& index);
  const Stored* find(const std::string& name) const;  // null when missing
  const Stored& get(const std::string& name) const;
  DType dtype(const Stored& stored) const;

  std::filesystem::path location_;
  std::vector<Stored> stored_;
  std::vector<Stored> passed_over_;                  // a later shard holds them too
  std::unordered_map<std::string, size_t> by_name_;  // into stored_
  std::unordered_map<std::string, std::string> aliases_;
  std::map<std::string, std::string> metadata_;
};

// Whether a folder has what SafetensorsFolder opens.
bool holds_safetensors(const std::filesystem::path& folder);

}  // namespace roundhouse
