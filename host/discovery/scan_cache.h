// SPDX-License-Identifier: Apache-2.0
// What earlier scans found, so that a start does not run every plugin again.
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "host/discovery/records.h"

namespace roundhouse {

// roundhouse/plugins.json in the user's XDG cache folder. An entry holds for one path as long as size, times of
// modification and change, inode and this host's ABI stay. A cache that cannot be read is a warning, one that makes no
// sense is empty, and one that cannot be written is lost silently: it costs only time.
class ScanCache {
 public:
  ScanCache();

  std::optional<PluginRecord> find(const std::filesystem::path& plugin) const;
  void insert(const PluginRecord& record);
  // Drops entries of files that are gone, and writes the file anew when something changed.
  void save();

 private:
  std::filesystem::path file_;                     // empty: none is used
  std::map<std::string, nlohmann::json> entries_;  // by path
  bool changed_ = false;
};

}  // namespace roundhouse
