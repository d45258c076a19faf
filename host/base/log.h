// Logging. spdlog stays behind this header, because its fmt clashes with libtorch's in one translation unit.
#pragma once

#include <string>

namespace roundhouse::log {

enum class Level { kDebug, kInfo, kWarning, kError };

// Messages go to standard error and, once set, to a file as well (with time stamps). Thread-safe.
void set_level(Level level);
void set_file(const std::string& path);  // throws Error when it cannot be opened
void debug(const std::string& message);
void info(const std::string& message);
void warning(const std::string& message);
void error(const std::string& message);
void write(Level level, const std::string& message);
// To the log file alone, when there is one.
void file_only(const std::string& message);

}  // namespace roundhouse::log
