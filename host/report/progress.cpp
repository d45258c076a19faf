// SPDX-License-Identifier: Apache-2.0
#include "host/report/progress.h"

#include <unistd.h>

#include <cstdio>

#include "host/base/error.h"
#include "host/base/log.h"
#include "host/report/table.h"

namespace roundhouse {

using Clock = std::chrono::steady_clock;

namespace {

constexpr std::chrono::milliseconds kRewritten(200), kElsewhere(60'000);  // between two updates

}  // namespace

Progress::Progress(std::string unit, int64_t steps, int64_t first)
    : unit_(std::move(unit)),
      steps_(steps),
      first_(first),
      terminal_(isatty(STDERR_FILENO) == 1),
      start_(Clock::now()),
      last_(terminal_ ? Clock::time_point() : start_) {}

Progress::~Progress() { clear(); }

std::string Progress::left(double done) const {
  done -= static_cast<double>(first_);
  if (done <= 0) return "";
  const double spent = std::chrono::duration<double>(Clock::now() - start_).count();
  return cat(", ", format_seconds(spent / done * (static_cast<double>(steps_ - first_) - done)), " left");
}

void Progress::update(int64_t step, double fraction, const std::string& detail) {
  if (Clock::now() - last_ < (terminal_ ? kRewritten : kElsewhere)) return;
  last_ = Clock::now();
  shown_ = terminal_;
  std::fprintf(stderr, "%s%s %ld/%ld  %s%s%s", terminal_ ? "\r\033[K" : "", unit_.c_str(), static_cast<long>(step + 1),
               static_cast<long>(steps_), detail.c_str(), left(static_cast<double>(step) + fraction).c_str(),
               terminal_ ? "" : "\n");
  std::fflush(stderr);
}

void Progress::line(int64_t step, const std::string& text) {
  clear();
  const std::string line =
      cat(unit_, " ", step + 1, "/", steps_, "  ", text, step + 1 < steps_ ? left(static_cast<double>(step + 1)) : "");
  std::fprintf(stderr, "%s\n", line.c_str());
  log::file_only(line);
}

void Progress::clear() {
  if (!shown_) return;
  std::fprintf(stderr, "\r\033[K");
  std::fflush(stderr);
  shown_ = false;
}

}  // namespace roundhouse
