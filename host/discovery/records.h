// SPDX-License-Identifier: Apache-2.0
// What a scan learns about a plugin: facts only, so that they can be cached and listed without loading anything.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace roundhouse {

struct DtypeRecord {
  std::string id, summary, encoding;
  uint32_t supports = 0;  // RH_SUPPORTS_*
  nlohmann::json options_schema;
  std::vector<std::pair<std::string, nlohmann::json>> aliases;  // name, the scheme fields that it stands for
  std::filesystem::path plugin;
};

struct FormatRecord {
  std::string id, summary;
  std::vector<std::string> encodings;  // ids that it packs; "*": any
  nlohmann::json options_schema, backends;
  std::vector<std::pair<std::string, nlohmann::json>> aliases;  // name, the options that it stands for
  std::filesystem::path plugin;
};

struct PluginRecord {
  std::filesystem::path path;
  std::string status;  // "ok" or "blocked"
  std::string reason;  // of a blocked one, one line
  std::string name, vendor, version, summary;
  int abi_major = 0, abi_minor = 0;
  std::vector<DtypeRecord> dtypes;
  std::vector<FormatRecord> formats;

  bool ok() const { return status == "ok"; }
};

PluginRecord blocked(const std::filesystem::path& path, std::string reason);

nlohmann::json to_json(const PluginRecord& record);
// The record of the plugin at `path`. Throws nlohmann::json::exception for what to_json did not write.
PluginRecord plugin_record_from_json(const nlohmann::json& json, const std::filesystem::path& path);

}  // namespace roundhouse
