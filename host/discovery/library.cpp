// SPDX-License-Identifier: Apache-2.0
#include "host/discovery/library.h"

#include <dlfcn.h>

#include <algorithm>
#include <boost/dll/shared_library.hpp>
#include <deque>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "host/abi/plugin_call.h"
#include "host/abi/services.h"
#include "host/base/elf_check.h"
#include "host/base/error.h"

namespace roundhouse {
namespace {

using GetEntry = const rh_entry*(void);
using nlohmann::json;

// More than any plugin has of anything: a greater number is an uninitialised one.
constexpr uint32_t kMostItems = 10'000;
constexpr uint32_t kLargestStruct = 1 << 16;

const boost::dll::shared_library& open_for_good(const std::filesystem::path& path) {
  static auto& opened = *new std::deque<boost::dll::shared_library>;  // never destroyed: that would unload them
  boost::dll::shared_library library;
  std::error_code code;
  library.load(path, boost::dll::load_mode::rtld_now | boost::dll::load_mode::rtld_local, code);
  if (code) {
    const char* text = dlerror();
    throw Error(cat("cannot be loaded: ", text ? text : code.message()));
  }
  return opened.emplace_back(std::move(library));
}

const rh_entry* get_entry(const boost::dll::shared_library& library, const std::filesystem::path& path) {
  if (!library.has(RH_ENTRY_SYMBOL))
    throw Error("has no symbol " RH_ENTRY_SYMBOL
                ", so it is no Roundhouse plugin, or it was linked without exporting it");
  const rh_entry* entry = library.get<GetEntry>(RH_ENTRY_SYMBOL)();
  if (!entry) throw Error(RH_ENTRY_SYMBOL " returned NULL");
  if (entry->abi_major != RH_ABI_MAJOR) {
    throw Error(
        cat("abi_major is ", entry->abi_major, " in ", path.string(), ", but this host has ", RH_ABI_MAJOR, ": ",
            entry->abi_major > RH_ABI_MAJOR ? "use a newer Roundhouse" : "rebuild the plugin with a newer SDK"));
  }
  if (entry->struct_size > kLargestStruct || !RH_HAS(entry, init) || !RH_HAS(entry, deinit) ||
      !RH_HAS(entry, get_factory))
    throw Error(cat("rh_entry is damaged: struct_size is ", entry->struct_size,
                    ", or one of init, deinit, get_factory is missing"));
  return entry;
}

// ---- checks of what a descriptor holds; `what` names the descriptor ----

template <typename Table>
void require_plausible(const Table* table, const std::string& what) {
  if (!table) throw Error(cat(what, " is NULL"));
  if (table->struct_size < 2 * sizeof(uint32_t) || table->struct_size > kLargestStruct)
    throw Error(cat(what, " has the impossible struct_size ", table->struct_size));
}

std::string text_or_empty(const char* text) { return text ? text : ""; }

std::string checked_id(const char* id, const std::string& what) {
  if (!id) throw Error(cat("the id of ", what, " is NULL"));
  const std::string_view view(id);
  if (view.empty()) throw Error(cat("the id of ", what, " is empty"));
  if (!std::all_of(view.begin(), view.end(), [](unsigned char c) { return c > ' ' && c < 0x7f && c != '/'; }))
    throw Error(cat("the id of ", what, " has characters other than printable ASCII without spaces and slashes"));
  return id;
}

json checked_json(const char* text, json::value_t type, const std::string& what) {
  json value = json::parse(text ? text : "", nullptr, false);
  if (value.type() != type) throw Error(cat(what, " is not a JSON ", json(type).type_name()));
  return value;
}

// All items of a factory, their tables and descriptors looked at.
template <typename Table, typename Factory>
std::vector<const Table*> items(const Factory* factory, const std::string& kind) {
  std::vector<const Table*> result;
  if (!factory) return result;
  const std::string what = cat("the ", kind, " factory");
  require_plausible(factory, what);
  if (!RH_HAS(factory, count) || !RH_HAS(factory, get)) throw Error(cat(what, " lacks count or get"));
  const uint32_t count = factory->count();
  if (count > kMostItems) throw Error(cat(what, " counts ", count, " items"));
  for (uint32_t i = 0; i < count; ++i) {
    const Table* table = factory->get(i);
    require_plausible(table, cat(kind, " ", i));
    require_plausible(RH_HAS(table, descriptor) ? table->descriptor : nullptr, cat("the descriptor of ", kind, " ", i));
    result.push_back(table);
  }
  return result;
}

const char* object_of(const rh_alias* alias) { return RH_HAS(alias, scheme_json) ? alias->scheme_json : "{}"; }
const char* object_of(const rh_format_alias* alias) { return RH_HAS(alias, options_json) ? alias->options_json : "{}"; }

// Names, with the JSON objects that they stand for.
template <typename Alias>
std::vector<std::pair<std::string, json>> read_aliases(const Alias* const* aliases, uint32_t count,
                                                       const std::string& id) {
  if (count > kMostItems) throw Error(cat(id, " counts ", count, " aliases"));
  std::vector<std::pair<std::string, json>> result;
  for (uint32_t i = 0; i < count; ++i) {
    const std::string which = cat("alias ", i, " of ", id);
    require_plausible(aliases[i], which);
    result.emplace_back(checked_id(RH_HAS(aliases[i], name) ? aliases[i]->name : nullptr, which),
                        checked_json(object_of(aliases[i]), json::value_t::object, cat("what ", which, " stands for")));
  }
  return result;
}

DtypeRecord read(const rh_dtype* dtype, const std::string& what) {
  const rh_dtype_descriptor* d = dtype->descriptor;
  DtypeRecord record;
  record.id = checked_id(RH_HAS(d, id) ? d->id : nullptr, what);
  record.supports = d->supports;
  if (!(d->supports & RH_SUPPORTS_CPU))
    throw Error(cat(record.id, " does not run on the CPU, where weights are decoded"));
  record.summary = RH_HAS(d, summary) ? d->summary : "";
  record.encoding = RH_HAS(d, encoding) ? d->encoding : "";
  record.options_schema = json::object();
  if (RH_HAS(d, options_schema_json))
    record.options_schema =
        checked_json(d->options_schema_json, json::value_t::object, cat("options_schema_json of ", record.id));
  if (!RH_HAS(dtype, check) || !RH_HAS(dtype, create)) throw Error(cat(record.id, " lacks check or create"));

  if (RH_HAS(d, aliases)) record.aliases = read_aliases(d->aliases, d->alias_count, record.id);
  return record;
}

FormatRecord read(const rh_format* format, const std::string& what) {
  const rh_format_descriptor* d = format->descriptor;
  FormatRecord record;
  record.id = checked_id(RH_HAS(d, id) ? d->id : nullptr, what);
  record.summary = RH_HAS(d, summary) ? d->summary : "";
  const uint32_t encodings = RH_HAS(d, encodings) ? d->encoding_count : 0;
  if (encodings > kMostItems) throw Error(cat(record.id, " counts ", encodings, " encodings"));
  for (uint32_t i = 0; i < encodings; ++i) {
    if (!d->encodings[i]) throw Error(cat("encoding ", i, " of ", record.id, " is NULL"));
    record.encodings.push_back(d->encodings[i]);
  }
  record.options_schema = json::object();
  if (RH_HAS(d, options_schema_json))
    record.options_schema =
        checked_json(d->options_schema_json, json::value_t::object, cat("options_schema_json of ", record.id));
  record.backends = json::array();
  if (RH_HAS(format, backends_json))
    record.backends =
        checked_json(format->backends_json(format), json::value_t::array, cat("backends_json of ", record.id));
  if (!RH_HAS(format, check) || !RH_HAS(format, plan) || !RH_HAS(format, begin) || !RH_HAS(format, probe) ||
      !RH_HAS(format, open))
    throw Error(cat(record.id, " lacks one of check, plan, begin, probe, open"));
  if (RH_HAS(d, aliases)) record.aliases = read_aliases(d->aliases, d->alias_count, record.id);
  return record;
}

}  // namespace

void PluginLibrary::Deinit::operator()(const rh_entry* entry) const {
  const WatchedCall here(plugin, "deinit");
  entry->deinit();
}

PluginLibrary::PluginLibrary(const std::filesystem::path& path, const std::function<void(const char*)>& on_stage) {
  const std::string plugin = cat("plugin ", path.string());
  std::optional<WatchedCall> here;
  const auto enter = [&](const char* name) {
    here.emplace(plugin, name);
    if (on_stage) on_stage(name);
  };
  enter(stage::kLoad);
  check_shared_object(path);
  const auto& library = open_for_good(path);

  enter(stage::kGetEntry);
  const rh_entry* entry = get_entry(library, path);
  record_.path = path;
  record_.status = "ok";
  record_.abi_major = entry->abi_major;
  record_.abi_minor = entry->abi_minor;
  record_.name = text_or_empty(entry->name);
  record_.vendor = text_or_empty(entry->vendor);
  record_.version = text_or_empty(entry->version);
  record_.summary = text_or_empty(entry->summary);

  enter(stage::kInit);
  rh_error error{};
  if (const rh_code code = entry->init(host_table(), &error); code != RH_OK)
    throw Error(cat("init failed: ", error_text(code, error)));
  started_ = {entry, {plugin}};

  enter(stage::kGetFactory);
  const auto* dtypes = static_cast<const rh_dtype_factory*>(entry->get_factory(RH_DTYPE_FACTORY));
  const auto* formats = static_cast<const rh_format_factory*>(entry->get_factory(RH_FORMAT_FACTORY));
  if (!dtypes && !formats) throw Error("offers neither data types nor formats that this host knows");

  enter(stage::kDescriptors);
  read_descriptors(dtypes, formats);
}

void PluginLibrary::read_descriptors(const rh_dtype_factory* dtypes, const rh_format_factory* formats) {
  dtypes_ = items<rh_dtype>(dtypes, "data type");
  formats_ = items<rh_format>(formats, "format");
  std::set<std::string> names;
  const auto add_name = [&](const std::string& kind, const std::string& name) {
    if (!names.insert(cat(kind, " ", name)).second) throw Error(cat("declares the ", kind, " ", name, " twice"));
  };
  for (size_t i = 0; i < dtypes_.size(); ++i) {
    DtypeRecord& dtype = record_.dtypes.emplace_back(read(dtypes_[i], cat("data type ", i)));
    dtype.plugin = record_.path;
    add_name("data type", dtype.id);
    for (const auto& alias : dtype.aliases)
      if (alias.first != dtype.id) add_name("data type", alias.first);
  }
  for (size_t i = 0; i < formats_.size(); ++i) {
    FormatRecord& format = record_.formats.emplace_back(read(formats_[i], cat("format ", i)));
    format.plugin = record_.path;
    add_name("format", format.id);
    for (const auto& alias : format.aliases) add_name("format", alias.first);
  }
}

}  // namespace roundhouse
