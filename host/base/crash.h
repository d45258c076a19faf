// SPDX-License-Identifier: Apache-2.0
// What is said when the program crashes: which plugin, which call, which layer, and what of the work is kept.
#pragma once

#include <atomic>
#include <cstddef>
#include <string>
#include <string_view>

namespace roundhouse {

// From now on SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGABRT (and so abort and std::terminate), and exit() called by a
// plugin, print one line with the PluginCall of that thread and all CrashNotes, before the process ends by that signal,
// or after exit() with status 1. Not for _exit() and SIGKILL, which nobody can catch.
void report_crashes();

// A call into a plugin that this thread is in, for as long as it lives. Calls nest. Borrows the texts.
class PluginCall {
 public:
  PluginCall(std::string_view plugin, std::string_view function, std::string_view where = {}) noexcept;
  // The same call, gone on with on this thread.
  PluginCall(const PluginCall& other) noexcept : PluginCall(other.plugin_, other.function_, other.where_) {}
  PluginCall& operator=(const PluginCall&) = delete;
  ~PluginCall();

  // The innermost of this thread, or nullptr.
  static const PluginCall* current() noexcept;
  std::string_view plugin() const { return plugin_; }
  std::string_view function() const { return function_; }
  std::string_view where() const { return where_; }

 private:
  std::string_view plugin_, function_, where_;
  const PluginCall* outer_;
};

// A line about what a crash leaves behind, for as long as it lives. At most 32 at once; more are not printed.
class CrashNote {
 public:
  CrashNote() = default;
  CrashNote(const CrashNote&) = delete;
  CrashNote& operator=(const CrashNote&) = delete;
  ~CrashNote();
  void set(const std::string& text);

 private:
  int slot_ = -1;
};

}  // namespace roundhouse
