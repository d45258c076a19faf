// SPDX-License-Identifier: Apache-2.0
#include "host/checkpoint/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "host/base/error.h"

namespace roundhouse {

MappedFile::MappedFile(std::filesystem::path path) : path_(std::move(path)) {
  // O_NONBLOCK: opening a FIFO must not wait for a writer.
  const int fd = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    const int code = errno;
    std::error_code ignored;
    if (code == ENOENT && std::filesystem::is_symlink(path_, ignored))
      throw Error(cat(path_.string(), " is a link to a file that is missing. Download the checkpoint again."),
                  Failure::kNotFound);
    throw Error(cat("cannot open ", path_.string(), ": ", std::strerror(code)), failure_of(code));
  }
  struct stat info = {};
  void* mapping = MAP_FAILED;
  int code = ::fstat(fd, &info) == 0 ? 0 : errno;
  const bool regular = code == 0 && S_ISREG(info.st_mode);
  if (regular && info.st_size > 0) {
    mapping = ::mmap(nullptr, static_cast<size_t>(info.st_size), PROT_READ, MAP_PRIVATE, fd, 0);
    if (mapping == MAP_FAILED) code = errno;
  }
  ::close(fd);
  if (code != 0)
    throw Error(cat("cannot read ", path_.string(), ": ", std::strerror(code),
                    code == ENOMEM ? ". Raise the limit of this program's memory (ulimit -v, a container's)" : ""),
                failure_of(code));
  if (!regular) throw Error(cat(path_.string(), " is not a regular file"));
  if (info.st_size == 0)
    throw Error(cat(path_.string(), " is empty (0 bytes). Download or copy it again."), Failure::kDataLoss);
  data_ = static_cast<std::byte*>(mapping);
  size_ = static_cast<uint64_t>(info.st_size);
}

MappedFile::~MappedFile() { ::munmap(data_, size_); }

void MappedFile::advise(uint64_t begin, uint64_t end, int advice) const {
  const uint64_t page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  begin -= begin % page;
  ::madvise(data_ + begin, end - begin, advice);  // advice only: a refusal changes nothing but speed
}

void MappedFile::release() const { advise(0, size_, MADV_DONTNEED); }

std::shared_ptr<const void> MappedFile::lease(std::shared_ptr<const MappedFile> file, uint64_t begin, uint64_t end) {
  file->advise(begin, end, MADV_WILLNEED);
  const MappedFile* raw = file.get();
  // A page that another lease still uses comes back from the page cache when it is touched.
  return std::shared_ptr<const void>(
      raw, [file = std::move(file), begin, end](const void*) { file->advise(begin, end, MADV_DONTNEED); });
}

}  // namespace roundhouse
