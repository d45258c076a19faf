// SPDX-License-Identifier: Apache-2.0
// Where plugins are looked for.
#pragma once

#include <chrono>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace roundhouse {

struct DiscoveryOptions {
  std::vector<std::filesystem::path> files;        // --plugin
  std::vector<std::filesystem::path> directories;  // --plugin-path
  bool use_cache = true;                           // false: --no-cache
  std::filesystem::path executable_dir;            // empty: of this process
  std::chrono::milliseconds time_limit{10'000};    // to scan one plugin
};

struct SearchPath {
  std::vector<std::filesystem::path> files;    // plugin files, best first, each once
  std::vector<std::filesystem::path> folders;  // all that were looked at or would have been, best first
  std::vector<std::pair<std::filesystem::path, std::string>> refused;  // folder or file, reason
};

// In order: options.files, options.directories, $ROUNDHOUSE_ADD_PLUGIN_PATH, then $ROUNDHOUSE_PLUGIN_PATH or, when it
// is not set, roundhouse/plugins in the user's XDG data folder and ../lib/roundhouse/plugins from the executable. In a
// folder: librh_*.so, by name. A setuid program looks neither at the environment nor into the user's folder.
// $ROUNDHOUSE_PLUGIN_ALLOW names a file of SHA-256 digests, lines as sha256sum writes: then other plugins are refused.
// A folder or file that everyone may write to, or replace by way of a folder above, is refused. Throws Error for
// a file or folder of `options` that is not there, and for a list that cannot be read.
SearchPath search_path(const DiscoveryOptions& options);

}  // namespace roundhouse
