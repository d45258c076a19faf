// SPDX-License-Identifier: Apache-2.0
#include "host/base/scratch_folder.h"

#include <stdlib.h>

#include "host/base/error.h"

namespace roundhouse {

ScratchFolder::ScratchFolder() {
  const std::filesystem::path folder = std::filesystem::temp_directory_path();
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
