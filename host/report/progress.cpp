// SPDX-License-Identifier: Apache-2.0
#include "host/report/progress.h"

#include <unistd.h>

#include <cstdio>
#include <fstream>

#include "host/base/error.h"
#include "host/base/log.h"
#include "host/report/table.h"

namespace roundhouse {

using Clock = std::chrono::steady_clock;

namespace {

constexpr std::chrono::milliseconds kRewritten(200), kElsewhere(60'000);  // between two updates

ProgressSink g_sink = nullptr;

// Resident now, as the kernel counts it; 0 where it does not say.
uint64_t memory_bytes() {
  std::ifstream file("/proc/self/statm");
  uint64_t all = 0, resident = 0;
  file >> all >> resident;
  return resident * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

std::string left_text(double left) { return left < 0 ? "" : cat(", ", format_seconds(left), " left"); }

}  // namespace

void set_progress_sink(ProgressSink sink) { g_sink = sink; }

void send_progress(const nlohmann::json& event) {
  if (g_sink) g_sink(event);
}

Progress::Progress(std::string stage, int64_t steps, int64_t first)
    : stage_(std::move(stage)),
      steps_(steps),
      first_(first),
      terminal_(isatty(STDERR_FILENO) == 1),
      start_(Clock::now()),
      last_(terminal_ || g_sink ? Clock::time_point() : start_) {}

Progress::~Progress() { clear(); }

double Progress::spent() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

double Progress::left(double done) const {
  done -= static_cast<double>(first_);
  return done > 0 ? spent() / done * (static_cast<double>(steps_ - first_) - done) : -1;
}

nlohmann::json Progress::event(const char* kind, int64_t step, double done, const nlohmann::json& fields) const {
  const double seconds_left = left(done);
  nlohmann::json event{{"event", kind},
                       {"stage", stage_},
                       {"step", step + 1},
                       {"steps", steps_},
                       {"fraction", done / static_cast<double>(steps_)},
                       {"seconds", spent()},
                       {"seconds_left", seconds_left < 0 ? nlohmann::json() : nlohmann::json(seconds_left)},
                       {"memory_bytes", memory_bytes()}};
  if (fields.is_object()) event.update(fields);
  return event;
}

void Progress::update(int64_t step, double fraction, const std::string& detail, const nlohmann::json& fields) {
  if (Clock::now() - last_ < (terminal_ || g_sink ? kRewritten : kElsewhere)) return;
  last_ = Clock::now();
  const double done = static_cast<double>(step) + fraction;
  if (g_sink) return g_sink(event("progress", step, done, fields));
  const std::string line =
      cat(stage_, " ", step + 1, "/", steps_, "  ", detail, "  ", format_bytes(memory_bytes()), left_text(left(done)));
  if (terminal_)
    log::status(line);
  else
    std::fprintf(stderr, "%s\n", line.c_str());
}

void Progress::line(int64_t step, const std::string& text, const nlohmann::json& fields) {
  clear();
  const auto done = static_cast<double>(step + 1);
  const std::string line =
      cat(stage_, " ", step + 1, "/", steps_, "  ", text, step + 1 < steps_ ? left_text(left(done)) : "");
  log::file_only(line);
  if (g_sink) return g_sink(event("step", step, done, fields));
  std::fprintf(stderr, "%s\n", line.c_str());
}

void Progress::clear() { log::status(""); }

}  // namespace roundhouse
