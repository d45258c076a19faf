// SPDX-License-Identifier: Apache-2.0
#include "host/run/run_sink.h"

#include <algorithm>
#include <cstdlib>
#include <optional>

#include "host/base/environment.h"
#include "host/base/error.h"
#include "host/base/log.h"
#include "host/report/table.h"

namespace roundhouse {
namespace {

// A run that ends within this time of a record loses nothing else.
constexpr double kSecondsBetweenRecords = 30;
constexpr double kIntervalPerCost = 30;  // so that records take no more than about 3 % of a run

double seconds_between_records() {
  const std::string text = environment_variable("ROUNDHOUSE_JOURNAL_SECONDS");
  return text.empty() ? kSecondsBetweenRecords : std::strtod(text.c_str(), nullptr);
}

double tokens_of_an_iteration(const Recipe& recipe) {
  const Calibration& calibration = recipe.calibration;
  return static_cast<double>(
      std::min(calibration.samples, calibration.batch_size * recipe.tuning.gradient_accumulation) * calibration.seqlen);
}

// As on a full disk, which need not be the exports' end.
void warn_of_missing(const std::exception& e) {
  log::warning(cat("what is done is not recorded for a later run: ", e.what()));
}

}  // namespace

nlohmann::json blocks_to_record(const std::vector<BlockReport>& blocks) {
  nlohmann::json record = nlohmann::json::array();
  const auto error = [](const std::optional<double>& e) { return e ? nlohmann::json(*e) : nlohmann::json(); };
  for (const BlockReport& b : blocks)
    record.push_back({b.block, b.first_loss, b.best_loss, b.best_iteration, error(b.error_alone),
                      error(b.error_in_chain), b.seconds, b.expert_tokens, b.few, b.losses, b.of_logits});
  return record;
}

std::vector<BlockReport> blocks_of_record(const nlohmann::json& record) {
  std::vector<BlockReport> blocks;
  const auto error = [](const nlohmann::json& e) { return e.is_null() ? std::nullopt : std::optional<double>(e); };
  for (const nlohmann::json& b : record)
    blocks.push_back({b[0], b[1], b[2], b[3], error(b[4]), error(b[5]), b[6], b[7], b[8], b[9], b[10]});
  return blocks;
}

RunSink::RunSink(Exporter& exporter, const Plan& plan, OutputFolder& output, Journal& journal,
                 const JournalRecord* from)
    : exporter_(exporter),
      output_(output),
      journal_(journal),
      interval_(seconds_between_records()),
      iters_(plan.recipe.tuning.iters),
      tokens_(tokens_of_an_iteration(plan.recipe)),
      layers_alone_(plan.rounds_only),
      steps_(layers_alone_ ? std::count_if(plan.layers.begin(), plan.layers.end(),
                                           [](const LayerPlan& layer) { return layer.encoding != nullptr; })
                           : plan.blocks),
      done_(from ? from->state().at("done_steps").get<int64_t>() : 0),
      earlier_(from ? from->state().at("seconds").get<double>() : 0),
      progress_(unit(), steps_, done_) {
  if (!from) return;
  blocks_ = blocks_of_record(from->state().at("blocks"));
  log::info(cat("resuming ",
                done_ < steps_ ? cat("at ", unit(), " ", done_ + 1, " of ", steps_) : "after the last block", ", ",
                format_seconds(earlier_), " saved"));
  note_kept(done_);
}

void RunSink::layer(const EncodedLayer& layer) {
  exporter_.layer(layer);
  if (layers_alone_) progress_.update(done_++, 1, layer.plan.info.name);
}

void RunSink::iteration(int64_t block, int64_t iteration, double loss) {
  if (iteration == 0) block_.lap();
  losses_.push_back(loss);
  const double rate = iteration == 0 ? 0 : static_cast<double>(iteration) * tokens_ / block_.now();  // after the first
  progress_.update(block, static_cast<double>(iteration + 1) / static_cast<double>(iters_),
                   cat("iteration ", iteration + 1, "/", iters_, "  loss ", loss,
                       rate > 0 ? cat("  ", format_number(rate, 0), " tokens/s") : ""),
                   {{"iteration", iteration + 1},
                    {"iterations", iters_},
                    {"loss", loss},
                    {"tokens_per_second", rate > 0 ? nlohmann::json(rate) : nlohmann::json()}});
}

void RunSink::block_done(const BlockReport& report) {
  const std::string loss = report.first_loss > 0
                               ? cat(report.of_logits ? "divergence of logits " : "loss ", report.first_loss, " -> ",
                                     report.best_loss, " (iteration ", report.best_iteration, ")  ")
                               : "";
  progress_.line(report.block, cat(loss, format_seconds(report.seconds)),
                 {{"first_loss", report.first_loss},
                  {"best_loss", report.best_loss},
                  {"best_iteration", report.best_iteration},
                  {"step_seconds", report.seconds}});
  blocks_.push_back(report);
  blocks_.back().losses = std::exchange(losses_, {});
  done_ = report.block + 1;
}

bool RunSink::wants_pause() { return since_record_.now() >= std::max(interval_, kIntervalPerCost * cost_); }

void RunSink::pause(const std::function<void(RecordWriter& record)>& write) {
  const Clock cost;
  settle();
  exporter_.save();
  try {
    journal_.begin(
        [&](RecordWriter& record) {
          write(record);
          exporter_.add_to(record);
          record.state.update({{"done_steps", done_}, {"seconds", seconds()}, {"blocks", blocks_to_record(blocks_)}});
        },
        [this, done = done_] { note_kept(done); });
  } catch (const Error& e) {
    warn_of_missing(e);
  }
  cost_ = interval_ > 0 ? cost.now() : 0;
  since_record_.lap();
}

void RunSink::settle() {
  try {
    journal_.settle();
  } catch (const std::exception& e) {
    warn_of_missing(e);
  }
}

void RunSink::note_kept(int64_t done) {
  kept_ = cat("The work up to ", unit(), " ", done, " of ", steps_, " is kept in ", output_.partial().string(),
              ": the same command goes on from there.");
  output_.say_at_crash(kept_);
}

}  // namespace roundhouse
