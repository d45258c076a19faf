// SPDX-License-Identifier: Apache-2.0
// Factories and descriptors: static facts that are there before any instance is.
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "validator/plugin.h"

namespace roundhouse::validator {
namespace {

using nlohmann::json;

constexpr uint32_t kMostItems = 10'000;
constexpr uint32_t kLargestStruct = 1 << 16;
constexpr uint32_t kKnownSupports = RH_SUPPORTS_CPU | RH_SUPPORTS_CUDA | RH_SUPPORTS_WEIGHTS | RH_SUPPORTS_ACTIVATIONS |
                                    RH_SUPPORTS_SEARCH | RH_SUPPORTS_TUNING | RH_SUPPORTS_TUNED_SEARCH |
                                    RH_SUPPORTS_ENCODED | RH_SUPPORTS_BATCHES;

template <typename Table>
void check_size(const Table* table, const std::string& what) {
  at(what);
  expect(table, what, "a table", "NULL");
  expect(table->struct_size >= sizeof(Table) && table->struct_size < kLargestStruct, what + ".struct_size",
         text("at least ", sizeof(Table), ", that of 1.0"), text(table->struct_size));
}

void check_id(const char* id, const std::string& what) {
  const std::string value = checked_text(id, what);
  bool plain = !value.empty();
  for (const unsigned char c : value) plain &= c > ' ' && c < 0x7f && c != '/';
  expect(plain, what, "printable ASCII without spaces and slashes, not empty", printable(id));
}

void check_json(const char* value, bool object, const std::string& what) {
  const json parsed = json::parse(checked_text(value, what), nullptr, false);
  expect(object ? parsed.is_object() : parsed.is_array(), what, object ? "a JSON object" : "a JSON array",
         printable(value));
}

// Options that an alias fixes are among those of the schema.
void check_options(const json& options, const char* schema, const std::string& what) {
  const json known = json::parse(schema).value("properties", json::object());
  for (const auto& [key, value] : options.items())
    expect(known.contains(key), what, "options of options_schema_json", key);
}

template <typename Factory>
void check_factory(const Factory* factory, const std::string& what) {
  if (!factory) return;
  check_size(factory, what);
  expect(factory->count && factory->get, what, "count and get", "NULL");
  const uint32_t count = guarded(what + ".count", [&] { return factory->count(); });
  expect(count > 0 && count < kMostItems, what + ".count", "at least 1", text(count));
  expect(factory->count() == count, what + ".count", text(count, ", as before"), text(factory->count()));
  for (uint32_t i = 0; i < count; ++i) {
    const auto* item = guarded(what + ".get", [&] { return factory->get(i); });
    check_size(item, text(what, ".get(", i, ")"));
    expect(factory->get(i) == item, what + ".get", "the same pointer each time", "another one");
  }
  for (const uint32_t beyond : {count, count + 1, ~0u})
    expect(!guarded(what + ".get", [&] { return factory->get(beyond); }), text(what, ".get(", beyond, ")"),
           text("NULL: there are ", count), "a pointer");
}

void factories(Context& context) {
  const Started plugin(context.file);
  check_factory(plugin.dtype_factory(), "rh_dtype_factory");
  check_factory(plugin.format_factory(), "rh_format_factory");
}

void dtypes(Context& context) {
  const Started plugin(context.file);
  std::set<std::string> names;
  const auto unique = [&](const char* name) {
    expect(names.insert(name).second, "descriptors", "each id and alias once", text(name, " twice"));
  };
  for (const rh_dtype* dtype : plugin.dtypes()) {
    check_size(dtype, "rh_dtype");
    const rh_dtype_descriptor* d = dtype->descriptor;
    check_size(d, "rh_dtype_descriptor");
    check_id(d->id, "rh_dtype_descriptor.id");
    const std::string id = d->id;
    unique(d->id);
    checked_text(d->summary, id + ": summary");
    expect(*d->summary, id + ": summary", "one sentence", "an empty string");
    expect(*checked_text(d->encoding, id + ": encoding").c_str(), id + ": encoding", "an id", "an empty string");
    check_json(d->options_schema_json, true, id + ": options_schema_json");
    expect((d->supports & ~kKnownSupports) == 0, id + ": supports", "bits of RH_SUPPORTS_*", text(d->supports));
    expect(d->supports & (RH_SUPPORTS_WEIGHTS | RH_SUPPORTS_ACTIVATIONS), id + ": supports", "weights or activations",
           "neither");
    expect(d->supports & (RH_SUPPORTS_CPU | RH_SUPPORTS_CUDA), id + ": supports", "a device", "none");
    expect(dtype->check && dtype->create, id, "check and create", "NULL");
    expect(d->alias_count < kMostItems && (d->alias_count == 0 || d->aliases), id + ": aliases",
           text(d->alias_count, " of them"), "NULL, or an impossible count");
    for (uint32_t i = 0; i < d->alias_count; ++i) {
      const std::string what = text(id, ": alias ", i);
      check_size(d->aliases[i], what);
      check_id(d->aliases[i]->name, what);
      if (id != d->aliases[i]->name) unique(d->aliases[i]->name);
      check_json(d->aliases[i]->scheme_json, true, what + ": scheme_json");
      check_options(json::parse(d->aliases[i]->scheme_json).value("options", json::object()), d->options_schema_json,
                    what + ": scheme_json");
    }
  }
}

void formats(Context& context) {
  const Started plugin(context.file);
  std::set<std::string> names;
  for (const rh_format* format : plugin.formats()) {
    check_size(format, "rh_format");
    const rh_format_descriptor* d = format->descriptor;
    check_size(d, "rh_format_descriptor");
    check_id(d->id, "rh_format_descriptor.id");
    const std::string id = d->id;
    expect(names.insert(id).second, "descriptors", "each id once", id + " twice");
    checked_text(d->summary, id + ": summary");
    expect(*d->summary, id + ": summary", "one sentence", "an empty string");
    check_json(d->options_schema_json, true, id + ": options_schema_json");
    // None: the format is only read.
    expect(d->encoding_count < kMostItems && (d->encodings || d->encoding_count == 0), id + ": encodings",
           text("less than ", kMostItems), text(d->encoding_count));
    for (uint32_t i = 0; i < d->encoding_count; ++i) checked_text(d->encodings[i], text(id, ": encoding ", i));
    expect(format->check && format->begin && format->probe && format->open, id, "check, begin, probe and open", "NULL");
    expect(d->alias_count < kMostItems && (d->alias_count == 0 || d->aliases), id + ": aliases",
           text(d->alias_count, " of them"), "NULL, or an impossible count");
    for (uint32_t i = 0; i < d->alias_count; ++i) {
      const std::string what = text(id, ": alias ", i);
      check_size(d->aliases[i], what);
      check_id(d->aliases[i]->name, what);
      if (id != d->aliases[i]->name)
        expect(names.insert(d->aliases[i]->name).second, "descriptors", "each id and alias once",
               text(d->aliases[i]->name, " twice"));
      check_json(d->aliases[i]->options_json, true, what + ": options_json");
      check_options(json::parse(d->aliases[i]->options_json), d->options_schema_json, what + ": options_json");
    }
    if (!format->backends_json) continue;
    const char* backends = guarded(id + ": backends_json", [&] { return format->backends_json(format); });
    check_json(backends, false, id + ": backends_json");
    for (const json& backend : json::parse(backends))
      expect(backend.is_object() && backend.contains("engine") && backend["engine"].is_string(), id + ": backends_json",
             "objects with an engine", backend.dump());
  }
}

// [thread-safe]
void other_threads(Context& context) {
  const Started plugin(context.file);
  const auto* dtypes = plugin.dtype_factory();
  const auto* formats = plugin.format_factory();
  bool same = true;
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i)
    threads.emplace_back([&] {
      for (int round = 0; round < 100; ++round) {
        same &= plugin.entry()->get_factory(RH_DTYPE_FACTORY) == dtypes;
        same &= plugin.entry()->get_factory(RH_FORMAT_FACTORY) == formats;
        if (dtypes) same &= dtypes->count() > 0 && dtypes->get(0) != nullptr;
        if (formats) same &= formats->count() > 0 && formats->get(0) != nullptr;
      }
    });
  at("factories from two threads");
  for (std::thread& thread : threads) thread.join();
  expect(same, "factories from two threads", "the same answers", "others");
}

void extensions(Context& context) {
  const Started plugin(context.file);
  const auto ask = [](const auto* table, const std::string& what) {
    if (!table->get_extension) return;
    for (const char* id : {"", "roundhouse.no-such-extension/1"})
      expect(!guarded(what + ".get_extension", [&] { return table->get_extension(table, id); }),
             text(what, ".get_extension(", printable(id), ")"), "NULL", "a pointer");
  };
  if (plugin.dtype_factory())
    for (const rh_dtype* dtype : plugin.dtypes()) ask(dtype, "rh_dtype");
  if (plugin.format_factory())
    for (const rh_format* format : plugin.formats()) ask(format, "rh_format");
}

}  // namespace

void add_descriptor_tests(std::vector<Test>& tests) {
  tests.insert(
      tests.end(),
      {{"descriptors.factories", "a factory counts its items, the same each time, and has no more", "dtype.h",
        factories},
       {"descriptors.dtypes", "a data type's static facts are whole: sizes, ids, strings, JSON", "dtype.h", dtypes},
       {"descriptors.formats", "a format's static facts are whole: sizes, ids, strings, JSON", "format.h", formats},
       {"descriptors.threads", "factories may be asked from any thread", "dtype.h", other_threads},
       {"descriptors.extensions", "get_extension returns NULL for an unknown id", "dtype.h", extensions}});
}

}  // namespace roundhouse::validator
