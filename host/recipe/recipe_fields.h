// SPDX-License-Identifier: Apache-2.0
// The keys of a recipe that hold plain values, once for reading, writing and describing them.
#pragma once

#include <array>
#include <cstdint>
#include <limits>

namespace roundhouse {

inline constexpr int kRecipeVersion = 1;
inline constexpr const char* kKeepScheme = "none";
inline constexpr int64_t kMaxThreads = 4096;
inline constexpr int64_t kMaxCount = 1'000'000;  // of samples, tokens, iterations: products of three have 64 bits

// Each visits the members of a section: visit(key, member), with the least value of an integer behind it, and
// its greatest where that is not kMaxCount.
inline constexpr auto kCalibrationFields = [](auto& calibration, auto&& visit) {
  visit("data", calibration.data);
  visit("field", calibration.field);
  visit("samples", calibration.samples, 1);
  visit("seqlen", calibration.seqlen, 2);  // the last position is masked
  visit("batch_size", calibration.batch_size, 1);
  visit("seed", calibration.seed, 0, std::numeric_limits<int64_t>::max());
  visit("concatenate", calibration.concatenate);
  visit("date", calibration.date);
  visit("all_experts", calibration.all_experts);
};

// The names of an enumeration's values, in their order; visited behind the member.
using ValueNames = std::array<const char*, 2>;
inline constexpr ValueNames kAlgorithms{"signround", "signround2"}, kSchedules{"linear", "cosine"},
    kBestOf{"batch", "epoch"}, kLastBlock{"output", "logits"};

inline constexpr auto kTuningFields = [](auto& tuning, auto&& visit) {
  visit("algorithm", tuning.algorithm, kAlgorithms);
  visit("iters", tuning.iters, 0);
  visit("lr", tuning.lr);
  visit("minmax_lr", tuning.minmax_lr);
  visit("lr_schedule", tuning.lr_schedule, kSchedules);
  visit("best_of", tuning.best_of, kBestOf);
  visit("last_block", tuning.last_block, kLastBlock);
  visit("gradient_accumulation", tuning.gradient_accumulation, 1);
  visit("search", tuning.search);
  visit("quantized_input", tuning.quantized_input);
  visit("least_tokens", tuning.least_tokens, 0, std::numeric_limits<int64_t>::max());
};

inline constexpr auto kEvaluationFields = [](auto& evaluation, auto&& visit) {
  visit("data", evaluation.data);
  visit("field", evaluation.field);
  visit("seqlen", evaluation.seqlen, 2);
};

}  // namespace roundhouse
