// SPDX-License-Identifier: Apache-2.0
// Roundhouse SDK: the header-only C++ helper, no part of the ABI: it turns C++ classes into the C tables.
//
// Derive from Dtype and Quantizer, or from Format, Writer and Reader; throw rh::Error for what the user must know;
// then register with RH_PLUGIN. Every call from the host runs behind a trampoline that turns exceptions into rh_error.
// C++17, no dependency.
#pragma once

#include <cstring>
#include <memory>
#include <vector>

#include "dtype.hpp"
#include "entry.h"
#include "error.hpp"
#include "format.hpp"
#include "host.hpp"
#include "tensor.hpp"

namespace rh {

// The plugin's objects, made at the first init and gone with the last deinit.
struct Contents {
  std::vector<std::unique_ptr<Dtype>> dtypes;
  std::vector<std::unique_ptr<Format>> formats;
};

template <typename Definition>
struct Plugin {
  // Never destroyed: a host may call deinit at exit, after this plugin's static objects are gone.
  static inline Contents& contents = *new Contents;
  static inline int users = 0;

  static rh_code init(const rh_host* h, rh_error* error) {
    return guard(error, [&] {
      host_slot() = h;
      if (users == 0) contents = Definition::make();
      ++users;
    });
  }
  static void deinit() {
    if (--users > 0) return;
    contents = {};
    host_slot() = nullptr;
  }
  static const void* get_factory(const char* id) {
    static const rh_dtype_factory dtypes{
        sizeof(rh_dtype_factory), 0, [] { return static_cast<uint32_t>(contents.dtypes.size()); },
        [](uint32_t i) { return i < contents.dtypes.size() ? contents.dtypes[i]->table() : nullptr; }};
    static const rh_format_factory formats{
        sizeof(rh_format_factory), 0, [] { return static_cast<uint32_t>(contents.formats.size()); },
        [](uint32_t i) { return i < contents.formats.size() ? contents.formats[i]->table() : nullptr; }};
    if (std::strcmp(id, RH_DTYPE_FACTORY) == 0 && !contents.dtypes.empty()) return &dtypes;
    if (std::strcmp(id, RH_FORMAT_FACTORY) == 0 && !contents.formats.empty()) return &formats;
    return nullptr;
  }
};

}  // namespace rh

// Defines the exported entry. `Definition` is a class with `static rh::Contents make()`.
#define RH_PLUGIN(Definition, plugin_name, plugin_vendor, plugin_version, plugin_summary) \
  extern "C" RH_EXPORT const rh_entry* rh_get_entry(void) {                               \
    static const rh_entry entry{sizeof(rh_entry),                                         \
                                RH_ABI_MAJOR,                                             \
                                RH_ABI_MINOR,                                             \
                                plugin_name,                                              \
                                plugin_vendor,                                            \
                                plugin_version,                                           \
                                plugin_summary,                                           \
                                &rh::Plugin<Definition>::init,                            \
                                &rh::Plugin<Definition>::deinit,                          \
                                &rh::Plugin<Definition>::get_factory};                    \
    return &entry;                                                                        \
  }
