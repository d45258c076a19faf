// SPDX-License-Identifier: Apache-2.0
#include "host/base/log.h"

#include <atomic>
#include <cstdio>

namespace roundhouse::log {
namespace {

void write_plainly(Level level, const std::string& message) {
  if (level == Level::kDebug) return;
  const char* name = level == Level::kInfo ? "info" : level == Level::kWarning ? "warning" : "error";
  std::fprintf(stderr, "%s: %s\n", name, message.c_str());
}

std::atomic<Sink> g_sink{&write_plainly};

}  // namespace

void set_sink(Sink sink) { g_sink = sink; }

void write(Level level, const std::string& message) { g_sink.load()(level, message); }
void debug(const std::string& message) { write(Level::kDebug, message); }
void info(const std::string& message) { write(Level::kInfo, message); }
void warning(const std::string& message) { write(Level::kWarning, message); }
void error(const std::string& message) { write(Level::kError, message); }

}  // namespace roundhouse::log
