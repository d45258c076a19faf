// SPDX-License-Identifier: Apache-2.0
// What a long run shows while it works.
#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace roundhouse {

// Where progress goes in place of standard error: an object a call, whose members docs/recipes.md lists.
using ProgressSink = void (*)(const nlohmann::json& event);
void set_progress_sink(ProgressSink sink);
// Gives `event` to the sink, where there is one.
void send_progress(const nlohmann::json& event);

// On a terminal: a line that is rewritten a few times a second; elsewhere, a line a minute. One lasting line a block, in
// the log file too. Not thread-safe.
class Progress {
 public:
  // `stage`: a word for what is done, step by step. steps: of the whole stage, for the time left; `first` of them are done
  // already.
  Progress(std::string stage, int64_t steps, int64_t first = 0);
  ~Progress();

  // `fraction` of step `step` (from 0) is done. `fields`: more members of the event.
  void update(int64_t step, double fraction, const std::string& detail, const nlohmann::json& fields = {});
  // Step `step` has ended.
  void line(int64_t step, const std::string& text, const nlohmann::json& fields = {});
  // Removes the rewritten line.
  void clear();

 private:
  double spent() const;
  // Seconds, of all steps; negative: not known yet.
  double left(double done) const;
  nlohmann::json event(const char* kind, int64_t step, double done, const nlohmann::json& fields) const;

  std::string stage_;
  int64_t steps_, first_;
  bool terminal_;
  std::chrono::steady_clock::time_point start_, last_;
};

}  // namespace roundhouse
