// SPDX-License-Identifier: Apache-2.0
#include "host/cli/context.h"

#include <algorithm>
#include <cstdlib>

#include "host/base/environment.h"
#include "host/base/error.h"
#include "host/tuning/device.h"

namespace roundhouse::cli {
namespace {

std::filesystem::path share() { return Context::prefix() / "share/roundhouse"; }

// A folder or file of the configs, best first.
std::vector<std::filesystem::path> folders_of(const char* kind) {
  std::vector<std::filesystem::path> folders;
  for (const auto& folder : folders_in(environment_variable("ROUNDHOUSE_CONFIG_PATH")))
    folders.push_back(folder / kind);
  if (const auto user = xdg_folder("XDG_CONFIG_HOME", ".config"); !user.empty())
    folders.push_back(user / "roundhouse" / kind);
  folders.push_back(share() / "configs" / kind);
  return folders;
}

}  // namespace

std::vector<std::filesystem::path> Context::scheme_folders() { return folders_of("schemes"); }
std::vector<std::filesystem::path> Context::architecture_folders() { return folders_of("architectures"); }
std::filesystem::path Context::prefix() {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path().parent_path();
}
std::filesystem::path Context::config_file(const char* name) {
  const auto places = folders_of(name);
  const auto found = std::find_if(places.begin(), places.end(), [](const auto& file) { return exists(file); });
  return found == places.end() ? places.back() : *found;
}
std::filesystem::path Context::example_texts() {
  // The build tree has the source's configs whole.
  for (const char* folder : {"examples", "configs/examples"})
    if (const auto file = share() / folder / "texts/tinystories-calibration.jsonl"; exists(file)) return file;
  return {};
}
std::filesystem::path Context::template_folder() { return share() / "templates"; }

std::string device_of(const std::string& option) {
  const auto wanted = parse_device(option);
  if (!wanted) throw Error(cat("--device: must be auto, cpu, cuda or cuda:N, not ", option));
  return resolve_device(*wanted);
}

}  // namespace roundhouse::cli
