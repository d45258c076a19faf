// SPDX-License-Identifier: Apache-2.0
// The program's sink, a library of its own, so that programs with another one do not link spdlog.
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdio>
#include <mutex>
#include <regex>

#include "host/base/error.h"
#include "host/base/files.h"
#include "host/base/log.h"

namespace roundhouse::log {
namespace {

spdlog::sink_ptr g_file;

// As the lines that the file gets.
bool begins_with_time(const std::filesystem::path& path) {
  std::string begin(11, ' ');
  open_file(path).read(begin.data(), std::ssize(begin));
  return std::regex_match(begin, std::regex("[0-9]{4}-[0-9]{2}-[0-9]{2} "));
}

// A full disk, say: the work goes on without the file.
void end_file(const std::string& why) {
  static std::once_flag told;
  std::call_once(told, [&] { std::fprintf(stderr, "warning: the log file is not complete: %s\n", why.c_str()); });
}

spdlog::level::level_enum to_spdlog(Level level) {
  switch (level) {
    case Level::kDebug:
      return spdlog::level::debug;
    case Level::kInfo:
      return spdlog::level::info;
    case Level::kWarning:
      return spdlog::level::warn;
    case Level::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

spdlog::logger& logger() {
  static spdlog::logger instance = [] {
    auto sink = std::make_shared<spdlog::sinks::stderr_color_sink_mt>();
    sink->set_pattern("%^%l%$: %v");
    spdlog::logger result("roundhouse", sink);
    result.set_level(spdlog::level::info);
    result.set_error_handler(&end_file);
    return result;
  }();
  return instance;
}

}  // namespace

void to_console() {
  set_sink([](Level level, const std::string& message) { logger().log(to_spdlog(level), "{}", message); });
}

void set_level(Level level) { logger().set_level(to_spdlog(level)); }

void set_file(const std::string& path) {
  if (std::filesystem::is_regular_file(path)) require_kind(path, "log", begins_with_time);  // else a device, say
  try {
    g_file = std::make_shared<spdlog::sinks::basic_file_sink_mt>(path);
    g_file->set_pattern("%Y-%m-%d %H:%M:%S.%e %l: %v");
    logger().sinks().push_back(g_file);
    logger().flush_on(spdlog::level::info);
  } catch (const spdlog::spdlog_ex& failure) {
    throw Error(cat("cannot open the log file ", path, ": ", failure.what()));
  }
}

void file_only(const std::string& message) {
  if (!g_file) return;
  try {
    g_file->log(spdlog::details::log_msg("roundhouse", spdlog::level::info, message));
    g_file->flush();
  } catch (const spdlog::spdlog_ex& failure) {
    end_file(failure.what());
  }
}

}  // namespace roundhouse::log
