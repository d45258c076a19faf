// SPDX-License-Identifier: Apache-2.0
// roundhouse plugins list | inspect PLUGIN
#include <roundhouse/dtype.h>

#include <algorithm>
#include <iostream>
#include <memory>

#include "host/base/error.h"
#include "host/cli/context.h"
#include "host/report/table.h"

namespace roundhouse::cli {
namespace {

template <typename Records>
std::string ids(const Records& records) {
  std::string text;
  for (const auto& record : records) text += (text.empty() ? "" : ", ") + record.id;
  return text;
}

// Where its data types compute; nothing of a plugin without any.
std::string devices(const PluginRecord& plugin) {
  if (plugin.dtypes.empty()) return "";
  const bool cuda = std::any_of(plugin.dtypes.begin(), plugin.dtypes.end(),
                                [](const DtypeRecord& dtype) { return dtype.supports & RH_SUPPORTS_CUDA; });
  return cuda ? "cpu, cuda" : "cpu";
}

void print_list(const Catalogue& catalogue) {
  std::vector<std::vector<std::string>> rows{
      {"plugin", "version", "status", "data types", "formats", "devices", "file"}};
  for (const PluginRecord& p : catalogue.plugins())
    rows.push_back({p.name.empty() ? "?" : p.name, p.version, p.ok() ? p.status : p.status + ": " + p.reason,
                    ids(p.dtypes), ids(p.formats), devices(p), p.path.string()});
  std::cout << format_table(rows) << "\nSearched:\n";
  for (const auto& folder : catalogue.searched()) std::cout << "  " << folder.string() << "\n";
}

void print_one(const PluginRecord& p) {
  std::cout << p.path.string() << "\n  status   " << p.status << (p.ok() ? "" : ": " + p.reason) << "\n";
  if (p.name.empty()) return;
  std::cout << "  name     " << p.name << " " << p.version << " by " << p.vendor << "\n  summary  " << p.summary
            << "\n  ABI      " << p.abi_major << "." << p.abi_minor << "\n";
  for (const DtypeRecord& d : p.dtypes) {
    std::cout << "  dtype    " << d.id << ": " << d.summary << "\n           emits " << d.encoding;
    for (const auto& [name, scheme] : d.aliases) std::cout << "\n           alias " << name << " = " << scheme.dump();
    std::cout << "\n";
  }
  for (const FormatRecord& f : p.formats) {
    std::cout << "  format   " << f.id << ": " << f.summary << "\n           packs";
    for (const std::string& encoding : f.encodings) std::cout << " " << encoding;
    for (const auto& [name, options] : f.aliases) std::cout << "\n           alias " << name << " = " << options.dump();
    std::cout << "\n";
  }
}

// By the name that the list shows, else by file.
PluginRecord find_plugin(const Context& context, const std::string& plugin) {
  const Catalogue all = context.catalogue();
  for (const PluginRecord& p : all.plugins())
    if (p.name == plugin) return p;
  DiscoveryOptions only = context.discovery;
  only.files = {plugin};
  return Catalogue::discover(only).plugins().front();
}

}  // namespace

void add_plugins(Command program, Context& context) {
  Command plugins = program.add_command("plugins", "List or inspect plugins");
  plugins.require_command();
  const auto json = std::make_shared<bool>(false);
  const auto file = std::make_shared<std::string>();
  Command list = plugins.add_command("list", "All plugins found, and what is wrong with those that are blocked");
  list.add_flag("--json", *json, "Print JSON");
  list.set_action([&context, json] {
    const Catalogue catalogue = context.catalogue();
    if (!*json) return print_list(catalogue);
    nlohmann::json out = nlohmann::json::array();
    for (const PluginRecord& p : catalogue.plugins()) out.push_back(to_json(p));
    std::cout << out.dump(2) << "\n";
  });
  Command inspect = plugins.add_command("inspect", "Everything that one plugin file declares");
  inspect.add_option("PLUGIN", *file, "The plugin's .so, or its name in the list").required();
  inspect.add_flag("--json", *json, "Print JSON");
  inspect.set_action([&context, json, file] {
    const PluginRecord record = find_plugin(context, *file);
    if (*json)
      std::cout << to_json(record).dump(2) << "\n";
    else
      print_one(record);
    if (!record.ok()) throw Error(cat(*file, " cannot be used: ", record.reason));
  });
}

}  // namespace roundhouse::cli
