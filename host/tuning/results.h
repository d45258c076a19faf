// SPDX-License-Identifier: Apache-2.0
// What tuning a model tells, besides its layers.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "host/base/tensor.h"
#include "host/plan/plan.h"

namespace roundhouse {

class JournalRecord;
class RecordWriter;

struct BlockReport {
  int64_t block;
  double first_loss = 0, best_loss = 0;  // mean squared error of an iteration's batch; 0 when not tuned
  int64_t best_iteration = 0;
  // ||got - wanted|| / ||wanted|| of the quantized block's output over the first calibration texts, where the original's
  // output is at hand: given the original chain's inputs, and those of the quantized blocks before it.
  std::optional<double> error_alone{}, error_in_chain{};
  double seconds = 0;
  std::vector<int64_t> expert_tokens{};  // calibration tokens of each expert; empty: the block has none
  int64_t few = 0;                       // experts that got too few to be tuned
  std::vector<double> losses{};          // of each iteration; empty when not tuned
  bool of_logits = false;                // losses are mean divergences of the logits
};

// Calibration activations that did not fit in the recipe's `memory`.
struct Spill {
  int64_t bytes = 0;              // on disk
  int64_t read = 0, written = 0;  // bytes
  double seconds = 0;             // of gathering batches with them, and writing
};

// By layer: the statistic of its inputs, which its activation's data type measured.
using ActivationRanges = std::map<std::string, Tensor>;

// What the calibration texts told, or the recipe's imatrix.file.
struct Observations {
  int64_t tokens = 0;  // of the calibration texts
  ActivationRanges ranges;
  Importance importance;
  Spill spill;
};

// Adds ranges and importance to a record of a journal.
void add_observations(RecordWriter& record, const Observations& seen);
// Takes them back.
void take_observations(const JournalRecord& record, Observations& seen);

}  // namespace roundhouse
