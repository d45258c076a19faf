// SPDX-License-Identifier: Apache-2.0
// The plugin under test, loaded as the host loads it.
#pragma once

#include <roundhouse/dtype.h>
#include <roundhouse/entry.h>
#include <roundhouse/format.h>

#include <cassert>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "host/base/process_state.h"
#include "validator/test.h"

namespace roundhouse::validator {

// dlopen and rh_get_entry. Throws Failure.
const rh_entry* load_plugin(const std::filesystem::path& file);

// Calls init with the host, and deinit at the end. Throws Failure when the plugin refuses.
class Started {
 public:
  explicit Started(const std::filesystem::path& file, const rh_host* host = nullptr);
  ~Started();
  Started(const Started&) = delete;
  Started& operator=(const Started&) = delete;

  const rh_entry* entry() const { return entry_; }
  const rh_dtype_factory* dtype_factory() const;
  const rh_format_factory* format_factory() const;
  // Throw Skip when there are none.
  std::vector<const rh_dtype*> dtypes() const;
  std::vector<const rh_format*> formats() const;

 private:
  const rh_entry* entry_;
};

// An error struct whose bytes are known before a call, and the rules of what the call may leave there.
class ErrorSlot {
 public:
  ErrorSlot();
  rh_error* get() { return &error_; }
  // Throws Failure unless the code is one of abi.h's, and the struct is untouched after RH_OK and complete after
  // anything else.
  void check(rh_code code, const std::string& where) const;
  // REQUIRES: check().
  std::string message() const {
    assert(std::memchr(error_.message, 0, sizeof error_.message));
    return error_.message;
  }

 private:
  rh_error error_;
};

// While `on`, guarded() looks at what each call leaves behind of its process and thread; for the tests of that rule.
struct Leftovers {
  bool on = false;
  bool own_files = false;   // a call may open and close files of the plugin's own, as a reader's does
  std::string where, text;  // of the first; empty: none
};
extern Leftovers leftovers;

// Notes what changes during its life in `leftovers`, and puts it back.
class Watch {
 public:
  explicit Watch(std::string where) : where_(std::move(where)) {
    if (leftovers.own_files) descriptors_changed();
  }
  ~Watch();

 private:
  std::string where_;
  FloatEnvironment floats_ = FloatEnvironment::now();
  ProcessState process_;
};

// Throws Failure when something was left behind.
void expect_nothing_left();
inline constexpr const char* kProcessState =
    "a plugin leaves locale, umask, folder, signals, descriptors and floating-point environment as they are";

// Calls body(), which calls the plugin; an exception that leaves it is a Failure.
template <typename Body>
auto guarded(const std::string& where, Body&& body) {
  at(where);
  std::optional<Watch> watch;
  if (leftovers.on) watch.emplace(where);
  try {
    return body();
  } catch (const Failure&) {
    throw;
  } catch (...) {
    fail(where, "an rh_code: nothing throws across the boundary (abi.h, rule 2)", "a C++ exception left the plugin");
  }
}

// The threads of this process.
size_t thread_count();
size_t descriptor_count();
// Bytes that malloc has given out.
size_t allocated_bytes();

std::string printable(const char* text);  // "NULL", or quoted and cut
bool is_utf8(const std::string& text);
// Throws Failure unless it is a string that a descriptor may hold: not NULL, UTF-8, not longer than 64 KiB.
std::string checked_text(const char* text, const std::string& what);

}  // namespace roundhouse::validator
