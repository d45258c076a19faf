// SPDX-License-Identifier: Apache-2.0
// A look at a shared object's ELF header before the loader sees it: the loader's own words for a file that is cut off
// or of another machine are hard to understand, and a cut-off file can crash it.
#pragma once

#include <filesystem>

namespace roundhouse {

// Throws Error, without the path, unless the file is a whole shared object for this machine.
void check_shared_object(const std::filesystem::path& path);

}  // namespace roundhouse
