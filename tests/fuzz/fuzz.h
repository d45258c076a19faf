// SPDX-License-Identifier: Apache-2.0
// What the targets share. Each defines LLVMFuzzerTestOneInput: any bytes give a result or a std::exception, soon, without
// much memory; anything else ends the process.
#pragma once

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace roundhouse::fuzz {

inline std::string_view text(const uint8_t* data, size_t size) { return {reinterpret_cast<const char*>(data), size}; }

// The bytes as a file in memory.
class File {
 public:
  explicit File(std::string_view bytes) : fd_(::memfd_create("fuzz", MFD_CLOEXEC)) {
    if (::write(fd_, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) ::abort();
  }
  ~File() { ::close(fd_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  std::filesystem::path path() const { return "/proc/self/fd/" + std::to_string(fd_); }

 private:
  int fd_;
};

// The one folder of this process, empty at first and removed at its end.
inline const std::filesystem::path& folder() {
  static const struct Folder {
    Folder() {
      std::string name = (std::filesystem::temp_directory_path() / "roundhouse-fuzz-XXXXXX").string();
      if (!::mkdtemp(name.data())) ::abort();
      path = name;
    }
    ~Folder() {
      std::error_code ignored;
      std::filesystem::remove_all(path, ignored);
    }
    std::filesystem::path path;
  } folder;
  return folder.path;
}

inline void write(const std::string& name, std::string_view bytes) {
  std::ofstream(folder() / name, std::ios::binary) << bytes;
}

template <typename Body>
int expect_result_or_exception(Body&& body) {
  try {
    body();
  } catch (const std::exception&) {
  }
  return 0;
}

}  // namespace roundhouse::fuzz
