// SPDX-License-Identifier: Apache-2.0
// The plugins of this run: what they offer, and the tables to call.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "host/abi/loaded.h"
#include "host/discovery/records.h"
#include "host/discovery/search_path.h"

namespace roundhouse {

class PluginLibrary;

// discover() looks at every plugin in a child process (or at the cache) and loads none; a plugin is loaded when a data
// type or format of it is asked for. When two plugins offer the same id, the one that was found first has it.
// One thread at a time. Tables are valid as long as the catalogue.
class Catalogue {
 public:
  // Logs a warning for each duplicate id and each refused folder. Throws Error like search_path().
  static Catalogue discover(const DiscoveryOptions& options = {});
  Catalogue(Catalogue&&) noexcept;
  Catalogue& operator=(Catalogue&&) noexcept;
  ~Catalogue();

  // All that were found, best first, blocked ones included.
  const std::vector<PluginRecord>& plugins() const { return plugins_; }
  // Those that an id leads to.
  const std::vector<const DtypeRecord*>& dtypes() const { return dtypes_; }
  const std::vector<const FormatRecord*>& formats() const { return formats_; }
  // The folders that were looked at, best first.
  const std::vector<std::filesystem::path>& searched() const { return searched_; }

  // NULL when there is none. A format's name is its id or an alias. Neither loads anything.
  const DtypeRecord* find_dtype(const std::string& id) const;
  const FormatRecord* find_format(const std::string& name) const;
  // `said` over the options that the format's name stands for.
  nlohmann::json format_options(const std::string& name, const nlohmann::json& said) const;

  // Load the plugin when that has not happened yet. Throw Error for an unknown id, with the nearest names, what is
  // there, where plugins were looked for, and those that are blocked.
  LoadedDtype dtype(const std::string& id);
  LoadedFormat format(const std::string& name);

  // Throws the Error of an unknown data type `name`, an id or alias.
  [[noreturn]] void fail_unknown_dtype(const std::string& name) const;
  // "Searched for librh_*.so in: ...", and the blocked plugins with their reasons; for messages.
  std::string where_it_looked() const;

 private:
  Catalogue();
  void index();
  PluginLibrary& load(const std::filesystem::path& plugin);
  [[noreturn]] void fail_unknown_format(const std::string& name) const;
  std::string unknown(const char* kind, const std::string& name, std::vector<std::string> ids,
                      const std::vector<std::string>& aliases) const;

  std::vector<PluginRecord> plugins_;
  std::vector<const DtypeRecord*> dtypes_;    // into plugins_
  std::vector<const FormatRecord*> formats_;  // into plugins_
  std::vector<std::filesystem::path> searched_;
  std::vector<std::pair<std::filesystem::path, std::string>> refused_;
  std::map<std::filesystem::path, std::unique_ptr<PluginLibrary>> libraries_;  // loaded ones
};

}  // namespace roundhouse
