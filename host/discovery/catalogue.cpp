// SPDX-License-Identifier: Apache-2.0
#include "host/discovery/catalogue.h"

#include <optional>
#include <utility>

#include "host/base/error.h"
#include "host/base/log.h"
#include "host/base/suggest.h"
#include "host/discovery/library.h"
#include "host/discovery/scan.h"
#include "host/discovery/scan_cache.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;

std::string join(const std::vector<std::string>& texts) {
  std::string all;
  for (const auto& text : texts) all += cat(all.empty() ? "" : ", ", text);
  return all.empty() ? "none" : all;
}

template <typename Record>
const Record* find(const std::vector<const Record*>& records, const std::string& id) {
  for (const Record* record : records)
    if (record->id == id) return record;
  return nullptr;
}

// The first format with that alias, and what the alias stands for; NULL when there is none.
std::pair<const FormatRecord*, const nlohmann::json*> find_alias(const std::vector<const FormatRecord*>& formats,
                                                                 const std::string& name) {
  for (const FormatRecord* record : formats)
    for (const auto& [alias, options] : record->aliases)
      if (alias == name) return {record, &options};
  return {nullptr, nullptr};
}

// Appends those records whose id is new; warns of the others.
template <typename Record>
void add_first(std::vector<const Record*>& all, const std::vector<Record>& records, const char* kind) {
  for (const Record& record : records) {
    if (const Record* first = find(all, record.id))
      log::warning(cat("the ", kind, " ", record.id, " is offered by ", first->plugin.string(), " and by ",
                       record.plugin.string(), "; the first is used"));
    else
      all.push_back(&record);
  }
}

// `id` among a loaded plugin's tables. `kind`: for messages.
template <typename Loaded, typename Table>
Loaded loaded(const std::vector<const Table*>& tables, const fs::path& plugin, const char* kind,
              const std::string& id) {
  for (const Table* table : tables)
    if (table->descriptor->id == id) return {table, cat("plugin ", id, " (", plugin.string(), ")")};
  throw Error(cat("plugin ", plugin.string(), " no longer offers the ", kind, " ", id, "; --no-cache scans it again"));
}

}  // namespace

Catalogue::Catalogue() = default;
Catalogue::Catalogue(Catalogue&&) noexcept = default;
Catalogue& Catalogue::operator=(Catalogue&&) noexcept = default;
Catalogue::~Catalogue() = default;

Catalogue Catalogue::discover(const DiscoveryOptions& options) {
  Catalogue catalogue;
  SearchPath path = search_path(options);
  catalogue.searched_ = std::move(path.folders);
  catalogue.refused_ = std::move(path.refused);
  for (const auto& [path, reason] : catalogue.refused_) log::warning(cat(path.string(), " is refused: ", reason));

  std::optional<ScanCache> cache;
  if (options.use_cache) cache.emplace();
  for (const fs::path& file : path.files) {
    std::optional<PluginRecord> known = cache ? cache->find(file) : std::nullopt;
    if (!known) {
      ScanResult result = scan_plugin(file, options.time_limit);
      if (cache && result.cacheable) cache->insert(result.record);
      known = std::move(result.record);
    }
    catalogue.plugins_.push_back(std::move(*known));
  }
  if (cache) cache->save();
  catalogue.index();
  return catalogue;
}

void Catalogue::index() {
  for (const PluginRecord& plugin : plugins_) {
    add_first(dtypes_, plugin.dtypes, "data type");
    add_first(formats_, plugin.formats, "format");
  }
}

const DtypeRecord* Catalogue::find_dtype(const std::string& id) const { return find(dtypes_, id); }
const FormatRecord* Catalogue::find_format(const std::string& name) const {
  const FormatRecord* const record = find(formats_, name);
  return record ? record : find_alias(formats_, name).first;
}
nlohmann::json Catalogue::format_options(const std::string& name, const nlohmann::json& said) const {
  nlohmann::json options = nlohmann::json::object();
  if (!find(formats_, name))
    if (const nlohmann::json* const fixed = find_alias(formats_, name).second) options = *fixed;
  options.update(said);
  return options;
}

PluginLibrary& Catalogue::load(const fs::path& plugin) {
  auto& library = libraries_[plugin];
  if (!library) {
    try {
      library = std::make_unique<PluginLibrary>(plugin);
    } catch (const Error& e) {
      throw Error(cat("plugin ", plugin.string(), " ", e.what()));
    }
  }
  return *library;
}

LoadedDtype Catalogue::dtype(const std::string& id) {
  const DtypeRecord* record = find_dtype(id);
  if (!record) fail_unknown_dtype(id);
  return loaded<LoadedDtype>(load(record->plugin).dtypes(), record->plugin, "data type", id);
}

LoadedFormat Catalogue::format(const std::string& name) {
  const FormatRecord* record = find_format(name);
  if (!record) fail_unknown_format(name);
  return loaded<LoadedFormat>(load(record->plugin).formats(), record->plugin, "format", record->id);
}

std::string Catalogue::where_it_looked() const {
  std::vector<std::string> folders;
  for (const fs::path& folder : searched_) folders.push_back(folder.string());
  std::string text = cat("Searched for librh_*.so in: ", join(folders), ".");
  for (const auto& [refused, reason] : refused_) text += cat("\n  refused ", refused.string(), ": ", reason);
  for (const PluginRecord& plugin : plugins_)
    if (!plugin.ok()) text += cat("\n  blocked ", plugin.path.string(), ": ", plugin.reason);
  return text;
}

std::string Catalogue::unknown(const char* kind, const std::string& name, std::vector<std::string> ids,
                               const std::vector<std::string>& aliases) const {
  std::string parts;  // ids that the name is made of, such as "id:packing" of other programs
  for (const std::string& id : ids)
    if (cat(":", name, ":").find(cat(":", id, ":")) != std::string::npos) parts += cat(parts.empty() ? "" : " or ", id);
  const std::string loaded = join(ids);
  ids.insert(ids.end(), aliases.begin(), aliases.end());
  std::string near = suggest(name, ids);
  if (near.empty() && !parts.empty()) near = cat(" (did you mean ", parts, "?)");
  return cat("no plugin offers the ", kind, " \"", name, "\"", near, ". There are: ", loaded, ". ", where_it_looked());
}

void Catalogue::fail_unknown_dtype(const std::string& name) const {
  std::vector<std::string> ids, aliases;
  for (const DtypeRecord* record : dtypes_) {
    ids.push_back(record->id);
    for (const auto& alias : record->aliases) aliases.push_back(alias.first);
  }
  throw Error(unknown("data type", name, ids, aliases));
}

void Catalogue::fail_unknown_format(const std::string& name) const {
  std::vector<std::string> ids, aliases;
  for (const FormatRecord* record : formats_) {
    ids.push_back(record->id);
    for (const auto& alias : record->aliases) aliases.push_back(alias.first);
  }
  throw Error(unknown("format", name, ids, aliases));
}

}  // namespace roundhouse
