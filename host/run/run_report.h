// SPDX-License-Identifier: Apache-2.0
// What a run did.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "host/base/files.h"
#include "host/plan/mix_plan.h"
#include "host/run/evaluation.h"
#include "host/tuning/results.h"

namespace roundhouse {

// The original, plain rounding, or an export.
struct ModelRow {
  std::string name;                   // "original", "tuned, FORMAT"
  std::string format;                 // of an export: the format's id
  std::filesystem::path folder;       // empty: it was made in memory alone
  uint64_t bytes = 0;                 // of its weights
  std::optional<Score> score;         // nothing: the recipe has no evaluation data
  std::string verified;               // of an export: what reading it back has shown
  std::vector<std::string> problems;  // why it is not what the run made
  std::vector<std::string> notes;     // what is right, but worth knowing; and what engines stumble over
};

struct LayerRow {
  std::string name, scheme;
  uint64_t bytes = 0;  // about, of its weight as it is written
};

// How an engine serves an export.
struct ServeCommand {
  std::string engine, command;
};

struct RunReport {
  struct Seconds {
    double prepare = 0;   // planning, reading texts, checking weights, opening outputs
    double quantize = 0;  // until the checkpoints are whole
    double evaluate = 0;  // reading them back, and perplexities
    double total = 0;
  };

  std::filesystem::path model, output;
  std::string recipe;  // as YAML, complete
  std::string device;
  Seconds seconds;
  uint64_t peak_memory_bytes = 0;
  Spill spill;
  std::shared_ptr<const MixPlan> mix;  // nullptr: the recipe had none
  std::vector<ModelRow> models;        // the original first
  std::vector<BlockReport> blocks;
  std::vector<LayerRow> layers;
  std::vector<std::string> warnings;  // of the plan
  std::vector<ServeCommand> commands;

  // Where the run leaves its notes.
  std::filesystem::path notes() const { return output / kNotesFolder; }
};

// The contents of report.json:
//   model, recipe (YAML text), device, seconds {prepare, quantize, evaluate, total}, peak_memory_bytes,
//   spill    {bytes, read, written, seconds}: calibration activations on disk
//   models   [{name, format or null, folder or null, bytes, perplexity or null, tokens}]; all but the original kld {mean, median,
//            p99, p999} and same_top where it was evaluated; exports verified (text), problems and notes (texts)
//   blocks   [{block, first_loss, best_loss, best_iteration, seconds, error_alone or null, error_in_chain or null,
//            loss: "squared error" or "divergence of logits", losses [of each iteration, four digits; none when not tuned]}]
//   layers   [{name, scheme: text, bytes}]
//   warnings [text]
//   mix      of a recipe with one: {target, bytes, loss, schemes [{name, bytes, loss, layers}], curve [{bytes, loss}]}
nlohmann::json to_json(const RunReport& report);

// Of report.json: indented, with lists of numbers in one line each.
std::string readable(const nlohmann::json& value, int indent = 0);

// What `roundhouse run` prints at its end.
std::string summary(const RunReport& report);

// Throws Error with all problems of the first export that has some.
void require_verified(const RunReport& report);

}  // namespace roundhouse
