// SPDX-License-Identifier: Apache-2.0
#include "host/base/scratch_folder.h"

#include <stdlib.h>

#include <cstdlib>
#include <system_error>

#include "host/base/error.h"

namespace roundhouse {

std::filesystem::path temporary_folder() {
  const char* const named = std::getenv("TMPDIR");
  if (named && !*named) return "/tmp";
  std::error_code code;
  std::filesystem::path folder = std::filesystem::temp_directory_path(code);
  if (code)
    throw Error(cat("TMPDIR=", named ? named : "", ": ", code.message(), ". Set it to a folder that can be written."));
  return folder;
}

ScratchFolder::ScratchFolder() {
  const std::filesystem::path folder = temporary_folder();
  std::string pattern = (folder / "roundhouse.XXXXXX").string();
  if (!::mkdtemp(pattern.data()))
    throw Error(cat("cannot make a folder in ", folder.string(), ". Set TMPDIR to a folder that can be written."));
  path_ = pattern;
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

}  // namespace roundhouse
