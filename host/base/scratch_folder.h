// SPDX-License-Identifier: Apache-2.0
// A new empty folder among the system's temporary files, gone with this object.
#pragma once

#include <filesystem>
#include <string>
#include <utility>

namespace roundhouse {

// TMPDIR, else /tmp. Throws Error when it is no folder.
std::filesystem::path temporary_folder();

class ScratchFolder {
 public:
  // Throws Error.
  ScratchFolder();
  ~ScratchFolder();
  ScratchFolder(ScratchFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  ScratchFolder& operator=(ScratchFolder&& other) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace roundhouse
