// SPDX-License-Identifier: Apache-2.0
// What the user's environment says of folders. A setuid program hears nothing of it.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace roundhouse {

// "" when it is not set.
std::string environment_variable(const char* name);
// The folders of a list with colons between them.
std::vector<std::filesystem::path> folders_in(const std::string& list);
// $variable as an absolute path, or ~/fallback; empty when there is neither.
std::filesystem::path xdg_folder(const char* variable, const char* fallback);
// A leading "~" or "~/" is the user's home folder.
std::filesystem::path expand_home(const std::string& path);

}  // namespace roundhouse
