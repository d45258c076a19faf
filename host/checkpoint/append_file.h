// SPDX-License-Identifier: Apache-2.0
// A file that is written once, mostly from its beginning to its end, with errors that say what happened to which file.
#pragma once

#include <cstdint>
#include <filesystem>

namespace roundhouse {

// Not thread-safe. A moved-from or closed object may only be destroyed.
class AppendFile {
 public:
  // Creates the file, or empties it. Throws Error.
  explicit AppendFile(std::filesystem::path path);
  // Opens a file that is there and cuts it to `length`. Throws Error when it is shorter.
  AppendFile(std::filesystem::path path, uint64_t length);
  AppendFile(AppendFile&& other) noexcept;
  ~AppendFile();
  AppendFile& operator=(AppendFile&&) = delete;

  // All throw Error with the file, the reason, what was written, what is missing and what is free on the disk.
  void write(const void* data, uint64_t bytes);
  // At `offset`, which may lie beyond the end; write() and append() go on where they were, and size() does not count
  // it.
  void write_at(uint64_t offset, const void* data, uint64_t bytes);
  // Appends bytes [offset, offset + bytes) of another file, opened as `source`, inside the kernel where it can.
  // `source_path` is for messages.
  void append(int source, const std::filesystem::path& source_path, uint64_t offset, uint64_t bytes);

  // Reads bytes that were written. Throws Error.
  void read_at(uint64_t offset, void* data, uint64_t bytes) const;

  // Forces the data to the disk, and returns how long the file is. Throws Error.
  uint64_t sync();
  void sync_and_close();

  bool is_open() const { return fd_ >= 0; }
  int fd() const { return fd_; }  // readable too
  uint64_t size() const { return size_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  [[noreturn]] void fail(int code, uint64_t written, uint64_t missing) const;

  std::filesystem::path path_;
  int fd_ = -1;
  uint64_t size_ = 0;
};

// Forces the folder's own names to the disk, not the files. Throws Error.
void sync_folder(const std::filesystem::path& folder);

// Bytes that this user can still write on the disk of `path`, which need not exist yet. Throws Error.
uint64_t free_bytes(std::filesystem::path path);

}  // namespace roundhouse
