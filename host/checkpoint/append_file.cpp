// SPDX-License-Identifier: Apache-2.0
#include "host/checkpoint/append_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "host/base/error.h"
#include "host/base/process_state.h"

namespace roundhouse {

AppendFile::AppendFile(std::filesystem::path path) : path_(std::move(path)) {
  descriptors_changed();
  fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd_ < 0) throw Error(cat("cannot create ", path_.string(), ": ", std::strerror(errno)), failure_of(errno));
}

AppendFile::AppendFile(std::filesystem::path path, uint64_t length) : path_(std::move(path)), size_(length) {
  descriptors_changed();
  fd_ = ::open(path_.c_str(), O_RDWR | O_CLOEXEC);
  if (fd_ < 0) throw Error(cat("cannot open ", path_.string(), ": ", std::strerror(errno)), failure_of(errno));
  struct stat info = {};
  const bool known = ::fstat(fd_, &info) == 0;
  const bool shorter = known && static_cast<uint64_t>(info.st_size) < length;
  if (known && !shorter && ::ftruncate(fd_, static_cast<off_t>(length)) == 0 &&
      ::lseek(fd_, static_cast<off_t>(length), SEEK_SET) >= 0)
    return;
  const int code = errno;
  ::close(fd_);
  if (shorter)
    throw Error(cat(path_.string(), " has ", info.st_size, " bytes, and ", length, " were written"),
                Failure::kDataLoss);
  throw Error(cat("cannot cut ", path_.string(), " to ", length, " bytes: ", std::strerror(code)), failure_of(code));
}

AppendFile::AppendFile(AppendFile&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), size_(other.size_) {}

AppendFile::~AppendFile() {
  if (!is_open()) return;
  descriptors_changed();
  ::close(fd_);
}

void AppendFile::fail(int code, uint64_t written, uint64_t missing) const {
  std::string text = cat("cannot write ", path_.string(), ": ", std::strerror(code), ". ", written,
                         " bytes were written, ", missing, " more were to follow");
  struct statvfs disk = {};
  if (::fstatvfs(fd_, &disk) == 0) text += cat(", ", uint64_t{disk.f_bavail} * disk.f_frsize, " are free on that disk");
  if (code == ENOSPC || code == EDQUOT) text += ". Make room, or choose an output on another disk";
  if (code == EFBIG) text += ". The limit of a file's size is reached (ulimit -f, or the disk's own)";
  if (code == EIO) text += ". The disk is damaged or gone; choose an output on another one";
  if (code == EBADF) text += ". Something has closed the file: a plugin that closes what is not its own";
  throw Error(text + ".", failure_of(code));
}

void AppendFile::write(const void* data, uint64_t bytes) {
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n = ::write(fd_, next, bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(errno, size_, bytes);
    next += n;
    bytes -= static_cast<uint64_t>(n);
    size_ += static_cast<uint64_t>(n);
  }
}

void AppendFile::write_at(uint64_t offset, const void* data, uint64_t bytes) {
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n = ::pwrite(fd_, next, bytes, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(errno, offset, bytes);
    next += n;
    bytes -= static_cast<uint64_t>(n);
    offset += static_cast<uint64_t>(n);
  }
}

void AppendFile::append(int source, const std::filesystem::path& source_path, uint64_t offset, uint64_t bytes) {
  off_t position = static_cast<off_t>(offset);
  bool in_kernel = true;
  std::vector<char> buffer;
  while (bytes > 0) {
    if (in_kernel) {
      const ssize_t n = ::copy_file_range(source, &position, fd_, nullptr, bytes, 0);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG || errno == EIO)) fail(errno, size_, bytes);
      // Other errors mean that these file systems cannot do it; 0 may also come from one that has no real sizes.
      in_kernel = n > 0;
      if (n > 0) {
        bytes -= static_cast<uint64_t>(n);
        size_ += static_cast<uint64_t>(n);
      }
      continue;
    }
    buffer.resize(1 << 20);
    const ssize_t n = ::pread(source, buffer.data(), std::min<uint64_t>(bytes, buffer.size()), position);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0)
      throw Error(cat("cannot read ", source_path.string(), ": ",
                      n < 0 ? std::strerror(errno) : cat("it ends ", bytes, " bytes too early").c_str()),
                  Failure::kDataLoss);
    write(buffer.data(), static_cast<uint64_t>(n));
    position += n;
    bytes -= static_cast<uint64_t>(n);
  }
}

void AppendFile::read_at(uint64_t offset, void* data, uint64_t bytes) const {
  char* next = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t n = ::pread(fd_, next, bytes, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0)
      throw Error(cat("cannot read ", path_.string(), ": ", n < 0 ? std::strerror(errno) : "it ends too early"),
                  Failure::kDataLoss);
    next += n;
    offset += static_cast<uint64_t>(n);
    bytes -= static_cast<uint64_t>(n);
  }
}

uint64_t AppendFile::sync() {
  struct stat info = {};
  if (::fsync(fd_) != 0 || ::fstat(fd_, &info) != 0) fail(errno, size_, 0);
  return static_cast<uint64_t>(info.st_size);
}

void AppendFile::sync_and_close() {
  sync();
  descriptors_changed();
  if (::close(std::exchange(fd_, -1)) != 0)
    throw Error(cat("cannot write ", path_.string(), ": ", std::strerror(errno)), failure_of(errno));
}

void sync_folder(const std::filesystem::path& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const int code = fd < 0 || ::fsync(fd) != 0 ? errno : 0;
  if (fd >= 0) ::close(fd);
  // EINVAL: this file system has no fsync for folders.
  if (code != 0 && code != EINVAL)
    throw Error(cat("cannot write the folder ", folder.string(), ": ", std::strerror(code)), failure_of(code));
}

uint64_t free_bytes(std::filesystem::path path) {
  std::error_code ignored;
  path = std::filesystem::absolute(path);
  while (!std::filesystem::exists(path, ignored) && path.has_relative_path()) path = path.parent_path();
  struct statvfs disk = {};
  if (::statvfs(path.c_str(), &disk) != 0)
    throw Error(cat("cannot ask for the free space of ", path.string(), ": ", std::strerror(errno)), failure_of(errno));
  return uint64_t{disk.f_bavail} * disk.f_frsize;
}

}  // namespace roundhouse
