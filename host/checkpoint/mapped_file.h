// SPDX-License-Identifier: Apache-2.0
// A file mapped into memory for reading.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string_view>

namespace roundhouse {

// The mapping lives as long as the object. Const functions may be called from several threads.
class MappedFile {
 public:
  // Throws Error when the file is missing, empty, unreadable or not a regular file.
  explicit MappedFile(std::filesystem::path path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  const std::byte* data() const { return data_; }
  uint64_t size() const { return size_; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }

  // Holds `file` mapped and asks for the range [begin, end) to be read ahead; when the last copy goes, the range's
  // pages leave this process's resident memory again. So a run's memory follows the tensors in use, not those once
  // read.
  static std::shared_ptr<const void> lease(std::shared_ptr<const MappedFile> file, uint64_t begin, uint64_t end);
  // Lets all pages leave this process's resident memory; they come back when they are touched.
  void release() const;

 private:
  void advise(uint64_t begin, uint64_t end, int advice) const;

  std::filesystem::path path_;
  std::byte* data_ = nullptr;
  uint64_t size_ = 0;
};

}  // namespace roundhouse
