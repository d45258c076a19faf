// SPDX-License-Identifier: Apache-2.0
#include "host/base/environment.h"

#include <stdlib.h>

#include <sstream>

namespace roundhouse {

namespace fs = std::filesystem;

std::string environment_variable(const char* name) {
  const char* value = secure_getenv(name);
  return value ? value : "";
}

std::vector<fs::path> folders_in(const std::string& list) {
  std::vector<fs::path> folders;
  std::istringstream stream(list);
  for (std::string folder; std::getline(stream, folder, ':');)
    if (!folder.empty()) folders.emplace_back(folder);
  return folders;
}

fs::path xdg_folder(const char* variable, const char* fallback) {
  const fs::path set = environment_variable(variable);
  if (set.is_absolute()) return set;  // the XDG specification: ignore relative ones
  const std::string home = environment_variable("HOME");
  return home.empty() ? fs::path() : fs::path(home) / fallback;
}

fs::path expand_home(const std::string& path) {
  const std::string home = environment_variable("HOME");
  if (home.empty() || path.empty() || path[0] != '~' || (path.size() > 1 && path[1] != '/')) return path;
  return path.size() <= 2 ? fs::path(home) : fs::path(home) / path.substr(2);
}

}  // namespace roundhouse
