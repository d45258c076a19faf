// SPDX-License-Identifier: Apache-2.0
// What a shared object's own tables say, read without loading it.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace roundhouse::validator {

struct SharedObject {
  std::vector<std::string> needed;   // DT_NEEDED
  std::vector<std::string> exports;  // defined global or weak dynamic symbols
};

// REQUIRES: check_shared_object() passed. Throws Error for tables that lead out of the file.
SharedObject read_shared_object(const std::filesystem::path& path);

}  // namespace roundhouse::validator
