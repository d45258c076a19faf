// SPDX-License-Identifier: Apache-2.0
// The digests of an export: one changed bit is found, and named by its file and tensor.
//
// SHA256SUMS in the export's folder begins with a line that counts the others and has their digest. It has a line for each file, which `sha256sum -c SHA256SUMS` checks too, and a line for
// each stored tensor, which it takes for a comment; the fields after "#" are separated by tabs:
//   # tensor <tab> DIGEST <tab> first byte <tab> bytes <tab> FILE <tab> NAME
// The notes of the run (roundhouse/) are written later, and have a file of the same kind of their own.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace roundhouse {

inline constexpr const char* kDigestFile = "SHA256SUMS";

// Where a file has a tensor's bytes.
struct StoredRange {
  std::string name;
  std::string file;  // its path in the folder
  uint64_t offset, bytes;
};

class Digests {
 public:
  // Of all files of `folder`, an export or the notes in it, and of the tensors in its safetensors files and `others`.
  // Throws Error for what cannot be read.
  static Digests of(const std::filesystem::path& folder, const std::vector<StoredRange>& others);
  // Nothing when the folder has no digests, or those of another program. Throws Error when they cannot be read.
  static std::optional<Digests> read(const std::filesystem::path& folder);
  std::string text() const;

  size_t files() const { return files_.size(); }
  size_t tensors() const { return tensors_.size(); }
  // What differs in `folder`, file by file, with the tensors that differ in it; files are called `prefix` and their path
  // in the folder. `progress` is told of each file.
  std::vector<std::string> differences(const std::filesystem::path& folder,
                                       const std::function<void(const std::string& file)>& progress,
                                       const std::string& prefix = "") const;
  // Files in `folder` without a digest, sorted.
  std::vector<std::string> unknown(const std::filesystem::path& folder) const;

 private:
  std::string first_line(std::string_view others) const;
  struct TensorDigest {
    StoredRange range;
    std::string digest;
  };
  std::map<std::string, std::string> files_;  // the digest, by the file's path in the folder
  std::vector<TensorDigest> tensors_;
};

}  // namespace roundhouse
