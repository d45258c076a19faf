// SPDX-License-Identifier: Apache-2.0
// A file that several processes write.
#pragma once

#include <filesystem>
#include <string>

namespace roundhouse {

// Writes a file that other processes, and those of other machines with the same home, may write at the same time: each
// has a temporary file of its own, and the last one's stays, whole. Only the user can read it. Throws Error.
void write_shared_file(const std::filesystem::path& path, const std::string& contents);

}  // namespace roundhouse
