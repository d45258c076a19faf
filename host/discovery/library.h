// SPDX-License-Identifier: Apache-2.0
// Loading and starting one plugin: the same steps in the scan's child process and, later, in the program itself.
#pragma once

#include <roundhouse/dtype.h>
#include <roundhouse/entry.h>
#include <roundhouse/format.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "host/discovery/records.h"

namespace roundhouse {

// The steps of loading, in order, as messages name them.
namespace stage {
inline constexpr const char* kLoad = "load";
inline constexpr const char* kGetEntry = RH_ENTRY_SYMBOL;
inline constexpr const char* kInit = "init";
inline constexpr const char* kGetFactory = "get_factory";
inline constexpr const char* kDescriptors = "descriptors";
}  // namespace stage

// A loaded and initialised plugin. The destructor deinits it but never unloads the code: threads, thread-local
// destructors or static objects of a plugin may outlive any moment at which unloading would be safe.
class PluginLibrary {
 public:
  // Calls on_stage with each step's name before it begins. Throws Error with the reason in one line.
  explicit PluginLibrary(const std::filesystem::path& path, const std::function<void(const char*)>& on_stage = {});

  const PluginRecord& record() const { return record_; }
  // In the record's order; owned by the plugin, valid as long as this object.
  const std::vector<const rh_dtype*>& dtypes() const { return dtypes_; }
  const std::vector<const rh_format*>& formats() const { return formats_; }

 private:
  struct Deinit {
    std::string plugin;  // for messages
    void operator()(const rh_entry* entry) const;
  };

  void read_descriptors(const rh_dtype_factory* dtypes, const rh_format_factory* formats);

  std::unique_ptr<const rh_entry, Deinit> started_;
  PluginRecord record_;
  std::vector<const rh_dtype*> dtypes_;
  std::vector<const rh_format*> formats_;
};

}  // namespace roundhouse
