// SPDX-License-Identifier: Apache-2.0
#include "host/discovery/search_path.h"

#include <fnmatch.h>
#include <sys/stat.h>

#include <algorithm>
#include <optional>
#include <set>
#include <sstream>

#include "host/base/environment.h"
#include "host/base/error.h"
#include "host/base/files.h"
#include "host/base/sha256.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;

bool writable_by_all(const fs::path& path, mode_t& mode) {
  struct stat status = {};
  if (::stat(path.c_str(), &status) != 0) return false;
  mode = status.st_mode;
  return (mode & S_IWOTH) != 0;
}

// Why a plugin file, or a folder of plugins, is not trusted, or "": every user may write to it, or put another one in its
// place. In a folder with the sticky bit, as /tmp, that is only the owner's right.
std::string refusal(const fs::path& path) {
  mode_t mode = 0;
  if (writable_by_all(path, mode))
    return cat("every user may write to this ", S_ISDIR(mode) ? "folder, so its plugins are" : "file, so it is",
               " not trusted (chmod o-w)");
  std::error_code code;
  const fs::path real = fs::canonical(path, code);
  for (const fs::path& named : {real, path})
    for (fs::path folder = named.parent_path(); !folder.empty(); folder = folder.parent_path()) {
      if (writable_by_all(folder, mode) && !(mode & S_ISVTX))
        return cat("every user may replace what is in ", folder.string(), ", so it is not trusted (chmod o-w)");
      if (folder == folder.root_path()) break;
    }
  return "";
}

// The digests of the plugins that may be loaded; nothing: all may.
std::optional<std::set<std::string>> allowed_digests() {
  const std::string list = environment_variable("ROUNDHOUSE_PLUGIN_ALLOW");
  if (list.empty()) return std::nullopt;
  std::istringstream lines([&] {
    try {
      return read_file(list);
    } catch (const Error& e) {
      throw Error(cat("ROUNDHOUSE_PLUGIN_ALLOW: ", e.what()), e.failure());
    }
  }());
  std::set<std::string> digests;
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (line.empty() || line.front() == '#') continue;
    const std::string digest = line.substr(0, line.find_first_of(" \t\r"));
    if (digest.size() != 64 || digest.find_first_not_of("0123456789abcdef") != std::string::npos)
      throw Error(cat(list, ":", number,
                      " (ROUNDHOUSE_PLUGIN_ALLOW) does not begin with a SHA-256 digest, as a line of ",
                      "sha256sum does"));
    digests.insert(digest);
  }
  return digests;
}

class Collector {
 public:
  void add_file(const fs::path& file) {
    std::error_code code;
    fs::path real = fs::canonical(file, code);
    if (code) real = fs::absolute(file);
    if (!seen_.insert(real).second) return;
    fs::path named = fs::absolute(file).lexically_normal();
    std::string reason = refusal(named);
    if (reason.empty() && allowed_) try {
        if (const std::string digest = sha256_of_file(named); !allowed_->contains(digest))
          reason = cat("its SHA-256 is not in the list of ROUNDHOUSE_PLUGIN_ALLOW (", digest, ")");
      } catch (const Error& e) {
        reason = e.what();
      }
    if (!reason.empty())
      path_.refused.emplace_back(std::move(named), std::move(reason));
    else
      path_.files.push_back(std::move(named));
  }

  void add_folder(const fs::path& given) {
    const fs::path folder = fs::absolute(given).lexically_normal();
    if (std::find(path_.folders.begin(), path_.folders.end(), folder) != path_.folders.end()) return;
    path_.folders.push_back(folder);
    if (const std::string reason = refusal(folder); !reason.empty()) {
      path_.refused.emplace_back(folder, reason);
      return;
    }
    std::vector<fs::path> files;
    std::error_code code;
    for (fs::directory_iterator it(folder, code), end; !code && it != end; it.increment(code))
      if (::fnmatch("librh_*.so", it->path().filename().c_str(), 0) == 0) files.push_back(it->path());
    std::sort(files.begin(), files.end());
    for (const fs::path& file : files) add_file(file);
  }

  SearchPath take() { return std::move(path_); }

 private:
  SearchPath path_;
  std::set<fs::path> seen_;  // links resolved
  std::optional<std::set<std::string>> allowed_ = allowed_digests();
};

}  // namespace

SearchPath search_path(const DiscoveryOptions& options) {
  Collector collector;
  for (const fs::path& file : options.files) {
    if (!fs::is_regular_file(file)) throw Error(cat("there is no plugin file ", file.string()));
    collector.add_file(file);
  }
  for (const fs::path& folder : options.directories) {
    if (!fs::is_directory(folder)) throw Error(cat("there is no plugin folder ", folder.string()));
    collector.add_folder(folder);
  }
  for (const fs::path& folder : folders_in(environment_variable("ROUNDHOUSE_ADD_PLUGIN_PATH")))
    collector.add_folder(folder);
  if (const std::string replaced = environment_variable("ROUNDHOUSE_PLUGIN_PATH"); !replaced.empty()) {
    for (const fs::path& folder : folders_in(replaced)) collector.add_folder(folder);
    return collector.take();
  }
  if (const fs::path data = xdg_folder("XDG_DATA_HOME", ".local/share"); !data.empty())
    collector.add_folder(data / "roundhouse/plugins");
  const fs::path own =
      options.executable_dir.empty() ? fs::read_symlink("/proc/self/exe").parent_path() : options.executable_dir;
  collector.add_folder(own / "../lib/roundhouse/plugins");
  return collector.take();
}

}  // namespace roundhouse
