// SPDX-License-Identifier: Apache-2.0
// What a plugin must leave as it found it: of its thread, the floating-point environment; of the process, everything
// that other plugins and the host see.
#pragma once

#include <sys/types.h>

#include <array>
#include <csignal>
#include <cstdint>
#include <locale>
#include <string>
#include <string_view>
#include <vector>

namespace roundhouse {

// Rounding, denormals and traps of this thread; a few nanoseconds to read.
class FloatEnvironment {
 public:
  static FloatEnvironment now() noexcept;
  void restore() const noexcept;
  bool operator==(const FloatEnvironment&) const = default;

 private:
  uint64_t control_ = 0;  // MXCSR without its sticky flags; FPCR
  uint16_t x87_ = 0;
};

// What a call has left behind. The text goes on from the plugin's name.
struct Leftover {
  std::string kind, text;
};

// The locale, the umask, the current folder, signal handlers and descriptors, as they are when it is made; some 50 us.
class ProcessState {
 public:
  ProcessState();
  // Puts back what has changed since, where it can, and returns what that was. Of descriptors: those that are closed or
  // are another file now, and files and folders that were left open; while the host itself opened or closed some, only
  // the standard streams.
  std::vector<Leftover> restore() const;

 private:
  static constexpr int kSignals = 31;  // without the real-time ones
  struct Descriptor {
    int number;
    mode_t mode;
    dev_t device;
    ino_t inode;
  };
  static std::vector<Descriptor> descriptors();

  std::string c_locale_;
  std::locale locale_;
  locale_t thread_locale_;
  mode_t umask_;
  std::string folder_;
  std::array<struct sigaction, kSignals + 1> handlers_;
  uint64_t changes_;
  std::vector<Descriptor> descriptors_;
};

// Said by what opens or closes a descriptor on behalf of a plugin's call.
void descriptors_changed() noexcept;

// While it lives, a thread of the host opens and closes descriptors beside the calls of plugins.
class OwnDescriptors {
 public:
  OwnDescriptors() noexcept;
  ~OwnDescriptors();
  OwnDescriptors(const OwnDescriptors&) = delete;
  OwnDescriptors& operator=(const OwnDescriptors&) = delete;
};

// A warning "<plugin> <text> in <function> of <where>", once for each plugin and kind. Thread-safe.
void warn_of(const Leftover& leftover, std::string_view plugin, std::string_view function, std::string_view where);

}  // namespace roundhouse
