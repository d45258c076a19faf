// SPDX-License-Identifier: Apache-2.0
#include "host/base/log.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <mutex>
#include <utility>

namespace roundhouse::log {
namespace {

void write_plainly(Level level, const std::string& message) {
  if (level == Level::kDebug) return;
  const char* name = level == Level::kInfo ? "info" : level == Level::kWarning ? "warning" : "error";
  std::fprintf(stderr, "%s: %s\n", name, message.c_str());
}

std::atomic<Sink> g_sink{&write_plainly};

std::mutex g_terminal;
bool g_status = false;  // stands on it

// REQUIRES: g_terminal is held.
void erase_status() {
  if (!std::exchange(g_status, false)) return;
  std::fputs("\r\033[K", stderr);
  std::fflush(stderr);
}

// A line that is wrapped could not be replaced.
std::string cut_to_terminal(const std::string& line) {
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || line.size() < size.ws_col) return line;
  size_t end = size.ws_col - 1;
  while (end > 0 && (static_cast<unsigned char>(line[end]) & 0xC0) == 0x80) --end;  // not within a UTF-8 character
  return line.substr(0, end);
}

}  // namespace

void set_sink(Sink sink) { g_sink = sink; }

void write(Level level, const std::string& message) {
  const std::lock_guard lock(g_terminal);
  erase_status();
  g_sink.load()(level, message);
}

void status(const std::string& line) {
  const std::lock_guard lock(g_terminal);
  erase_status();
  if (line.empty()) return;
  std::fputs(cut_to_terminal(line).c_str(), stderr);
  std::fflush(stderr);
  g_status = true;
}

void debug(const std::string& message) { write(Level::kDebug, message); }
void info(const std::string& message) { write(Level::kInfo, message); }
void warning(const std::string& message) { write(Level::kWarning, message); }
void error(const std::string& message) { write(Level::kError, message); }

}  // namespace roundhouse::log
