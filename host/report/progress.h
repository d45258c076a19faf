// SPDX-License-Identifier: Apache-2.0
// What a long run shows while it works.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace roundhouse {

// On a terminal: a line that is rewritten a few times a second; elsewhere, a line a minute. One lasting line a block, in
// the log file too. Not thread-safe.
class Progress {
 public:
  // steps: of the whole run, for the time left; `first` of them are done already.
  Progress(std::string unit, int64_t steps, int64_t first = 0);
  ~Progress();

  // `fraction` of step `step` (from 0) is done.
  void update(int64_t step, double fraction, const std::string& detail);
  // Step `step` has ended.
  void line(int64_t step, const std::string& text);
  // Removes the rewritten line.
  void clear();

 private:
  std::string left(double done) const;

  std::string unit_;
  int64_t steps_, first_;
  bool terminal_, shown_ = false;
  std::chrono::steady_clock::time_point start_, last_;
};

}  // namespace roundhouse
