// SPDX-License-Identifier: Apache-2.0
// Logging. spdlog stays behind this header, because its fmt clashes with libtorch's in one translation unit.
#pragma once

#include <string>

namespace roundhouse::log {

enum class Level { kDebug, kInfo, kWarning, kError };

// Thread-safe.
void debug(const std::string& message);
void info(const std::string& message);
void warning(const std::string& message);
void error(const std::string& message);
void write(Level level, const std::string& message);

// A line on the terminal of standard error that the next one replaces; "" removes it. Messages go above it, and it is cut
// where the terminal ends. Thread-safe. REQUIRES: standard error is a terminal, or `line` is "".
void status(const std::string& line);

// Where messages go; called from any thread. Without one they go to standard error, all but those for debugging.
using Sink = void (*)(Level level, const std::string& message);
void set_sink(Sink sink);

// ---- the program's sink: standard error, coloured on a terminal, and, once set, a file with time stamps ----

void to_console();
void set_level(Level level);
void set_file(const std::string& path);  // throws Error when it cannot be opened
// To the log file alone, when there is one.
void file_only(const std::string& message);

}  // namespace roundhouse::log
