// SPDX-License-Identifier: Apache-2.0
// A call into a plugin: what is said when the program crashes or ends in it (which plugin, which call, which layer, and
// what of the work is kept), and what it must leave as it found it.
#pragma once

#include <atomic>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "host/base/process_state.h"

namespace roundhouse {

// From now on SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGABRT (and so abort and std::terminate), and exit() or quick_exit()
// called by a plugin, print one line with the PluginCall of that thread and all CrashNotes, before the process ends by
// that signal, or with status 1. Not for SIGKILL, which nobody can catch.
void report_crashes();
// The same for other functions that end the process: returns unless a plugin called `function`, "_exit()".
void report_end(std::string_view function);

// A call into a plugin that this thread is in, for as long as it lives. Calls nest. Borrows the texts. The thread's
// floating-point environment is put back at its end, with a warning that names the plugin when it had changed.
// REQUIRES: it waits for no other thread's call that begins later.
class PluginCall {
 public:
  PluginCall(std::string_view plugin, std::string_view function, std::string_view where = {}) noexcept
      : PluginCall(plugin, function, where, Beside::kAny) {}
  // The same call, gone on with on this thread. One that the call has started inherits what the call has changed: it is
  // left with what was there before the call.
  PluginCall(const PluginCall& other) noexcept
      : PluginCall(other.plugin_, other.function_, other.where_, Beside::kItsOwn) {
    if (outer_ != &other) floats_ = other.floats_;
  }
  PluginCall& operator=(const PluginCall&) = delete;
  ~PluginCall();

  // The innermost of this thread, or nullptr.
  static const PluginCall* current() noexcept;
  std::string_view plugin() const { return plugin_; }
  std::string_view function() const { return function_; }
  std::string_view where() const { return where_; }

 protected:
  // Which calls of other threads may be under way meanwhile. kItsOwn: those of the call that this one is a part of.
  enum class Beside { kAny, kNone, kItsOwn };
  PluginCall(std::string_view plugin, std::string_view function, std::string_view where, Beside beside) noexcept;
  // Whether no other thread is in a call, but for threads that go on with this one.
  bool is_alone() const { return alone_; }

 private:
  std::string_view plugin_, function_, where_;
  const PluginCall* outer_;
  bool alone_, locked_ = false;
  FloatEnvironment floats_;
};

// The same, and what the call has changed of the process: some 0.2 ms, too much for calls of each tuning step. Of each
// function of a plugin the first 16 calls are watched, then every 16th, so that 50,000 layers take no longer for it. One
// that is watched waits until no other thread is in a call, and the others' wait for it: what has changed is its own.
class WatchedCall : public PluginCall {
 public:
  WatchedCall(std::string_view plugin, std::string_view function, std::string_view where = {});
  ~WatchedCall();

 private:
  WatchedCall(std::string_view plugin, std::string_view function, std::string_view where, bool due);
  static bool is_due(std::string_view plugin, std::string_view function);

  std::optional<ProcessState> before_;
};

// A call of a reader, which may have files of its own open from `open` to `close`.
class ReaderCall : public WatchedCall {
 public:
  ReaderCall(std::string_view plugin, std::string_view function, std::string_view where = {})
      : WatchedCall(plugin, function, where) {
    descriptors_changed();
  }
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
