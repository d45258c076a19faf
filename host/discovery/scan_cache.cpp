// SPDX-License-Identifier: Apache-2.0
#include "host/discovery/scan_cache.h"

#include <roundhouse/abi.h>
#include <sys/stat.h>

#include "host/base/environment.h"
#include "host/base/error.h"
#include "host/base/files.h"
#include "host/base/log.h"
#include "host/base/shared_file.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Of the file's layout and of the checks that a scan makes: raise it when either changes.
constexpr int kVersion = 3;

json file_version() { return {{"version", kVersion}, {"abi_major", RH_ABI_MAJOR}, {"abi_minor", RH_ABI_MINOR}}; }

// What tells one state of a file from another, or null when there is no such file.
json identity(const fs::path& path) {
  struct stat s = {};
  if (::stat(path.c_str(), &s) != 0) return nullptr;
  // The time of the last change of any kind cannot be set.
  return {s.st_size, s.st_mtim.tv_sec, s.st_mtim.tv_nsec, s.st_ctim.tv_sec, s.st_ctim.tv_nsec, s.st_ino};
}

}  // namespace

ScanCache::ScanCache() {
  const fs::path folder = xdg_folder("XDG_CACHE_HOME", ".cache");
  if (folder.empty()) return;
  file_ = folder / "roundhouse/plugins.json";
  std::error_code code;
  if (!fs::exists(file_, code) && !code) return;
  json content;
  try {
    content = json::parse(read_file(file_), nullptr, false);
  } catch (const Error& error) {
    log::warning(cat("the cache of plugins is not used, so that each start scans them: ", error.what(),
                     ". Remove it, or set XDG_CACHE_HOME."));
    file_.clear();
    return;
  }
  if (!content.is_object() || content.value("host", json()) != file_version()) return;
  if (const json plugins = content.value("plugins", json()); plugins.is_object())
    for (const auto& [path, entry] : plugins.items()) entries_[path] = entry;
}

std::optional<PluginRecord> ScanCache::find(const fs::path& plugin) const {
  const auto entry = entries_.find(plugin.string());
  if (entry == entries_.end()) return std::nullopt;
  try {
    if (entry->second.at("identity") != identity(plugin)) return std::nullopt;
    return plugin_record_from_json(entry->second.at("record"), plugin);
  } catch (const json::exception&) {
    return std::nullopt;
  }
}

void ScanCache::insert(const PluginRecord& record) {
  entries_[record.path.string()] = {{"identity", identity(record.path)}, {"record", to_json(record)}};
  changed_ = true;
}

void ScanCache::save() {
  changed_ |= std::erase_if(entries_, [](const auto& entry) { return identity(entry.first).is_null(); }) > 0;
  if (!changed_ || file_.empty()) return;
  std::error_code ignored;
  fs::create_directories(file_.parent_path(), ignored);
  const json content{{"host", file_version()}, {"plugins", entries_}};
  try {
    write_shared_file(file_, content.dump(1, ' ', false, json::error_handler_t::replace));
  } catch (const Error&) {  // the next start scans again
  }
  changed_ = false;
}

}  // namespace roundhouse
