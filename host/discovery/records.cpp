// SPDX-License-Identifier: Apache-2.0
#include "host/discovery/records.h"

namespace roundhouse {

using nlohmann::json;

PluginRecord blocked(const std::filesystem::path& path, std::string reason) {
  PluginRecord record;
  record.path = path;
  record.status = "blocked";
  record.reason = std::move(reason);
  return record;
}

namespace {

using Aliases = std::vector<std::pair<std::string, json>>;

json aliases_to_json(const Aliases& aliases) {
  json list = json::array();
  for (const auto& [name, fields] : aliases) list.push_back({{"name", name}, {"fields", fields}});
  return list;
}
Aliases aliases_from_json(const json& list) {
  Aliases aliases;
  for (const auto& a : list) aliases.emplace_back(a.at("name"), a.at("fields"));
  return aliases;
}

}  // namespace

json to_json(const PluginRecord& record) {
  json dtypes = json::array(), formats = json::array();
  for (const auto& d : record.dtypes) {
    dtypes.push_back({{"id", d.id},
                      {"summary", d.summary},
                      {"encoding", d.encoding},
                      {"supports", d.supports},
                      {"options_schema", d.options_schema},
                      {"aliases", aliases_to_json(d.aliases)}});
  }
  for (const auto& f : record.formats) {
    formats.push_back({{"id", f.id},
                       {"summary", f.summary},
                       {"encodings", f.encodings},
                       {"options_schema", f.options_schema},
                       {"aliases", aliases_to_json(f.aliases)},
                       {"backends", f.backends}});
  }
  return {{"path", record.path.string()},
          {"status", record.status},
          {"reason", record.reason},
          {"name", record.name},
          {"vendor", record.vendor},
          {"version", record.version},
          {"summary", record.summary},
          {"abi_major", record.abi_major},
          {"abi_minor", record.abi_minor},
          {"dtypes", dtypes},
          {"formats", formats}};
}

PluginRecord plugin_record_from_json(const json& j, const std::filesystem::path& path) {
  PluginRecord record;
  record.path = path;
  j.at("status").get_to(record.status);
  j.at("reason").get_to(record.reason);
  j.at("name").get_to(record.name);
  j.at("vendor").get_to(record.vendor);
  j.at("version").get_to(record.version);
  j.at("summary").get_to(record.summary);
  j.at("abi_major").get_to(record.abi_major);
  j.at("abi_minor").get_to(record.abi_minor);
  for (const auto& d : j.at("dtypes")) {
    DtypeRecord& dtype = record.dtypes.emplace_back();
    d.at("id").get_to(dtype.id);
    d.at("summary").get_to(dtype.summary);
    d.at("encoding").get_to(dtype.encoding);
    d.at("supports").get_to(dtype.supports);
    dtype.options_schema = d.at("options_schema");
    dtype.aliases = aliases_from_json(d.at("aliases"));
    dtype.plugin = path;
  }
  for (const auto& f : j.at("formats")) {
    FormatRecord& format = record.formats.emplace_back();
    f.at("id").get_to(format.id);
    f.at("summary").get_to(format.summary);
    f.at("encodings").get_to(format.encodings);
    format.options_schema = f.at("options_schema");
    format.aliases = aliases_from_json(f.at("aliases"));
    format.backends = f.at("backends");
    format.plugin = path;
  }
  return record;
}

}  // namespace roundhouse
