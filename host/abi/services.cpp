// SPDX-License-Identifier: Apache-2.0
#include "host/abi/services.h"

#include <roundhouse/ext/log.h>
#include <roundhouse/ext/parallel.h>

#include <algorithm>
#include <optional>
#include <string_view>

#include "host/base/crash.h"
#include "host/base/log.h"
#include "host/base/parallel.h"

namespace roundhouse {
namespace {

log::Level level(int32_t severity) {
  if (severity <= RH_LOG_DEBUG) return log::Level::kDebug;
  if (severity == RH_LOG_INFO) return log::Level::kInfo;
  if (severity == RH_LOG_WARNING) return log::Level::kWarning;
  return log::Level::kError;
}

void log_write(const rh_host*, int32_t severity, const char* message) {
  answer_plugin(nullptr, [&] { log::write(level(severity), message ? message : ""); });
}

int32_t max_threads(const rh_host*) { return threads(); }

void run_parallel(const rh_host*, int64_t n, int64_t grain, void (*body)(void*, int64_t, int64_t),
                  void* context) noexcept {
  const PluginCall* const caller = PluginCall::current();
  const auto chunk = [&](int64_t begin, int64_t end) noexcept {
    std::optional<PluginCall> here;
    if (caller) here.emplace(*caller);
    body(context, begin, end);
  };
  grain = std::max<int64_t>(1, grain);
  try {
    parallel_for(n, grain, chunk);
  } catch (const std::exception&) {  // no thread could be started, so no chunk has run
    for (int64_t begin = 0; begin < n; begin += grain) chunk(begin, std::min(n, begin + grain));
  }
}

constexpr rh_log kLog{sizeof(rh_log), 0, &log_write};
constexpr rh_parallel kParallel{sizeof(rh_parallel), 0, &max_threads, &run_parallel};

const void* get_extension(const rh_host*, const char* id) {
  if (!id) return nullptr;
  const std::string_view name(id);
  if (name == RH_EXT_LOG) return &kLog;
  if (name == RH_EXT_PARALLEL) return &kParallel;
  return export_extension(id);
}

}  // namespace

const rh_host* host_table() {
  static const rh_host host{sizeof(rh_host),    RH_ABI_MAJOR, RH_ABI_MINOR,  "roundhouse",
                            ROUNDHOUSE_VERSION, nullptr,      &get_extension};
  return &host;
}

}  // namespace roundhouse
