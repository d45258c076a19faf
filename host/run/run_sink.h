// SPDX-License-Identifier: Apache-2.0
// What becomes of a model's layers while it is quantized: they go to the formats, and the journal is written.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "host/checkpoint/output.h"
#include "host/export/exporter.h"
#include "host/export/journal.h"
#include "host/report/progress.h"
#include "host/tuning/quantize.h"

namespace roundhouse {

class Clock {
 public:
  // Seconds since the last lap, or since the start.
  double now() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - last_).count(); }
  double lap() {
    const auto now = std::chrono::steady_clock::now();
    return std::chrono::duration<double>(now - std::exchange(last_, now)).count();
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

// The reports of blocks as a record keeps them.
nlohmann::json blocks_to_record(const std::vector<BlockReport>& blocks);
std::vector<BlockReport> blocks_of_record(const nlohmann::json& record);

// Shows the work, hands its results to the formats, keeps what the report needs, and writes the journal.
class RunSink : public QuantizeSink {
 public:
  // `from`: the record to go on from; nullptr: there is none.
  RunSink(Exporter& exporter, const Plan& plan, OutputFolder& output, Journal& journal, const JournalRecord* from);
  ~RunSink() override { settle(); }

  void layer(const EncodedLayer& layer) override;
  void tensor(const std::string& name, const Tensor& tensor) override { exporter_.tensor(name, tensor); }
  void iteration(int64_t block, int64_t iteration, double loss) override;
  void block_done(const BlockReport& report) override;
  bool wants_pause() override;
  void pause(const std::function<void(RecordWriter& record)>& write) override;

  // Waits until the last record is on the disk; warns when it cannot be.
  void settle();

  const std::vector<BlockReport>& blocks() const { return blocks_; }
  // With those of the runs before that were broken off.
  double seconds() const { return earlier_ + start_.now(); }
  // What a later run need not do again; "": it has to do all. REQUIRES: settle().
  const std::string& kept() const { return kept_; }

 private:
  const char* unit() const { return layers_alone_ ? "layer" : "block"; }
  void note_kept(int64_t done);

  Exporter& exporter_;
  OutputFolder& output_;
  Journal& journal_;
  double interval_;  // seconds between records, at least
  double cost_ = 0;  // seconds that the work waited for the last one
  int64_t iters_;
  double tokens_;      // of an iteration
  bool layers_alone_;  // they come without blocks
  int64_t steps_, done_;
  Clock start_, since_record_, block_;
  double earlier_;    // seconds of the runs that were broken off
  std::string kept_;  // written by the journal's thread, until settle()
  Progress progress_;
  std::vector<double> losses_;  // of the block that is tuned
  std::vector<BlockReport> blocks_;
};

}  // namespace roundhouse
