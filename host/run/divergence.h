// SPDX-License-Identifier: Apache-2.0
// How far a model's predictions are from those of the original.
//
// The file of the original's is safetensors, a position being a token that is scored, in the order of the sequences:
//   lengths   i64 [sequences]
//   ids       i32 [tokens]             the sequences, one behind the other
//   scale     f32 [positions]
//   least     f32 [positions]
//   top       i32 [positions]          the most probable token, the first of equal ones
//   log_prob  u16 [positions, vocab]   log p = scale * log_prob + least, where that is above -16; else p is taken as 0
// A row spans at most 16 nats below its largest value. The 16 bits and the limits are those of llama.cpp's
// --kl-divergence-base (tools/perplexity); here `least` also makes the stored probabilities add up to what they were
// before they were rounded, so that the original's divergence from itself is 0 and not of the size of the rounding.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "host/base/tensor.h"
#include "host/checkpoint/append_file.h"

namespace roundhouse {

using Sequences = std::vector<std::vector<int32_t>>;

// Over all scored positions; percentiles are interpolated linearly. The values are those of llama.cpp's --kl-divergence.
struct Divergence {
  // Kullback-Leibler divergence from the original, sum of p_original * log(p_original / p), in nats.
  double mean = 0, median = 0, p99 = 0, p999 = 0;
  double same_top = 0;  // the share of positions where the original's most probable token is the model's
};

// kld {mean, median, p99, p999}, same_top
nlohmann::json to_json(const Divergence& divergence);

// Cells of a table: mean, median, 99 %, 99.9 % and same top, and what stands above them. Empty ones for nothing.
inline const std::vector<std::string> kDivergenceHeads{"KLD", "median", "99 %", "99.9 %", "same top"};
std::vector<std::string> divergence_cells(const std::optional<Divergence>& divergence);

// Writes the original's file, a position at a time, in any order. Nothing of it is in memory.
class LogProbsWriter {
 public:
  // The file has the name `path` once it is finished; what was there is replaced. Throws Error.
  LogProbsWriter(const std::filesystem::path& path, const Sequences& sequences, int64_t vocab);
  ~LogProbsWriter();

  // log_p: [rows, vocab], for the tokens that follow `first` to `first` + rows - 1 of a sequence.
  void write(size_t sequence, int64_t first, int64_t rows, const float* log_p);
  void finish();

  // The bytes of such a file, without its header.
  static uint64_t bytes(const Sequences& sequences, int64_t vocab);

 private:
  std::filesystem::path path_;
  std::vector<int64_t> positions_;  // before each sequence
  int64_t vocab_;
  AppendFile file_;
  uint64_t scale_ = 0, least_ = 0, top_ = 0, log_prob_ = 0;  // where these begin
};

// Compares a model with the original, from the original's file, which stays mapped and not in memory.
class DivergenceMeter {
 public:
  // Throws Error when `file` is none of LogProbsWriter's, or one of other sequences or another vocabulary.
  DivergenceMeter(const std::filesystem::path& file, const Sequences& sequences, int64_t vocab);

  // As LogProbsWriter::write.
  void add(size_t sequence, int64_t first, int64_t rows, const float* log_p);
  // REQUIRES: every position was added. Begins anew.
  Divergence take();

 private:
  std::vector<int64_t> positions_;  // before each sequence
  int64_t vocab_;
  std::unique_ptr<TensorSource> file_;
  Tensor scale_, least_, top_, log_prob_;
  std::vector<double> divergences_;  // of each position
  std::vector<uint8_t> same_top_;
};

}  // namespace roundhouse
