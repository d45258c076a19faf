// SPDX-License-Identifier: Apache-2.0
#include "host/run/divergence.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "host/base/error.h"
#include "host/base/files.h"
#include "host/base/parallel.h"
#include "host/checkpoint/safetensors.h"
#include "host/checkpoint/writer.h"
#include "host/report/table.h"

namespace roundhouse {
namespace {

constexpr float kSpan = 16;  // nats
constexpr float kLargestCode = 65535;

// The positions before each sequence, and at the end all of them.
std::vector<int64_t> positions_before(const Sequences& sequences) {
  std::vector<int64_t> positions{0};
  for (const auto& sequence : sequences)
    positions.push_back(positions.back() + std::max<int64_t>(0, static_cast<int64_t>(sequence.size()) - 1));
  return positions;
}

std::vector<TensorSpec> specs(const Sequences& sequences, int64_t vocab) {
  int64_t tokens = 0;
  for (const auto& sequence : sequences) tokens += static_cast<int64_t>(sequence.size());
  const int64_t positions = positions_before(sequences).back();
  return {{"lengths", DType::kI64, {static_cast<int64_t>(sequences.size())}},
          {"ids", DType::kI32, {tokens}},
          {"scale", DType::kF32, {positions}},
          {"least", DType::kF32, {positions}},
          {"top", DType::kI32, {positions}},
          {"log_prob", DType::kU16, {positions, vocab}}};
}

// The same path, before any file is there.
std::filesystem::path with_room(std::filesystem::path path, uint64_t bytes) {
  if (const uint64_t free = free_bytes(path); free < bytes)
    throw Error(cat("the original's logits need ", bytes, " bytes in ", path.string(), ", but that disk has only ",
                    free, " left. Make room, choose another disk, or evaluate on fewer texts."));
  return path;
}

// What the file says of the log probability of a token.
float log_probability(float scale, float least, uint16_t code) { return scale * static_cast<float>(code) + least; }

int64_t top_of(const float* log_p, int64_t vocab) { return std::max_element(log_p, log_p + vocab) - log_p; }

// A fraction of the way through sorted values.
double percentile(const std::vector<double>& sorted, double fraction) {
  const double at = fraction * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(at);
  const double above = sorted[std::min(below + 1, sorted.size() - 1)];
  return sorted[below] + (at - static_cast<double>(below)) * (above - sorted[below]);
}

}  // namespace

nlohmann::json to_json(const Divergence& d) {
  return {{"kld", {{"mean", d.mean}, {"median", d.median}, {"p99", d.p99}, {"p999", d.p999}}},
          {"same_top", d.same_top}};
}

std::vector<std::string> divergence_cells(const std::optional<Divergence>& d) {
  if (!d) return std::vector<std::string>(kDivergenceHeads.size());
  std::vector<std::string> cells;
  for (const double value : {d->mean, d->median, d->p99, d->p999}) cells.push_back(format_number(value, 5));
  cells.push_back(format_number(100 * d->same_top, 2) + " %");
  return cells;
}

uint64_t LogProbsWriter::bytes(const Sequences& sequences, int64_t vocab) {
  uint64_t sum = 0;
  for (const TensorSpec& spec : specs(sequences, vocab)) sum += bytes_of(spec.dtype, spec.shape);
  return sum;
}

LogProbsWriter::LogProbsWriter(const std::filesystem::path& path, const Sequences& sequences, int64_t vocab)
    : path_(with_room(replaceable(path), bytes(sequences, vocab))),
      positions_(positions_before(sequences)),
      vocab_(vocab),
      file_(std::filesystem::path(path_.string() + ".tmp")) {
  nlohmann::ordered_json header;
  uint64_t end = 0;
  std::vector<uint64_t> begins;
  for (const TensorSpec& spec : specs(sequences, vocab)) {
    begins.push_back(end);
    end += bytes_of(spec.dtype, spec.shape);
    header[spec.name] = {
        {"dtype", safetensors_name(spec.dtype)}, {"shape", spec.shape}, {"data_offsets", {begins.back(), end}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size(), data = sizeof length + length;
  file_.write(&length, sizeof length);
  file_.write(text.data(), length);
  for (const auto& sequence : sequences) {
    const auto tokens = static_cast<int64_t>(sequence.size());
    file_.write(&tokens, sizeof tokens);
  }
  for (const auto& sequence : sequences) file_.write(sequence.data(), sequence.size() * sizeof(int32_t));
  scale_ = data + begins[2];
  least_ = data + begins[3];
  top_ = data + begins[4];
  log_prob_ = data + begins[5];
}

LogProbsWriter::~LogProbsWriter() {
  std::error_code ignored;
  if (file_.is_open()) std::filesystem::remove(file_.path(), ignored);
}

void LogProbsWriter::write(size_t sequence, int64_t first, int64_t rows, const float* log_p) {
  std::vector<float> scale(rows), least(rows);
  std::vector<int32_t> top(rows);
  std::vector<uint16_t> codes(rows * vocab_);
  parallel_for(rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float* const p = log_p + row * vocab_;
      uint16_t* const code = codes.data() + row * vocab_;
      const int64_t best = top_of(p, vocab_);
      const float low = std::max(*std::min_element(p, p + vocab_), p[best] - kSpan);
      const float step = (p[best] - low) / kLargestCode;
      double exact = 0, rounded = 0;
      for (int64_t i = 0; i < vocab_; ++i) {
        code[i] = p[i] > low ? static_cast<uint16_t>((p[i] - low) / step + 0.5f) : 0;
        const float value = log_probability(step, low, code[i]);
        if (value <= -kSpan) continue;
        exact += static_cast<double>(std::exp(p[i]));
        rounded += static_cast<double>(std::exp(value));
      }
      top[row] = static_cast<int32_t>(best);
      scale[row] = step;
      least[row] = low + static_cast<float>(std::log(exact / rounded));
    }
  });
  const auto at = static_cast<uint64_t>(positions_[sequence] + first);
  file_.write_at(scale_ + at * sizeof(float), scale.data(), scale.size() * sizeof(float));
  file_.write_at(least_ + at * sizeof(float), least.data(), least.size() * sizeof(float));
  file_.write_at(top_ + at * sizeof(int32_t), top.data(), top.size() * sizeof(int32_t));
  file_.write_at(log_prob_ + at * static_cast<uint64_t>(vocab_) * sizeof(uint16_t), codes.data(),
                 codes.size() * sizeof(uint16_t));
}

void LogProbsWriter::finish() {
  file_.sync_and_close();
  std::filesystem::rename(file_.path(), path_);
}

DivergenceMeter::DivergenceMeter(const std::filesystem::path& file, const Sequences& sequences, int64_t vocab)
    : positions_(positions_before(sequences)), vocab_(vocab) {
  auto stored = std::make_unique<SafetensorsFolder>(file);
  const auto refuse = [&](const std::string& problem) {
    throw Error(cat(file.string(), ": ", problem, ". Write it with `roundhouse eval ORIGINAL --save-logits` and the ",
                    "same --data, --field and --seqlen."));
  };
  std::vector<Tensor> tensors;
  for (const TensorSpec& spec : specs(sequences, vocab)) {
    if (!stored->contains(spec.name)) refuse(cat("has no tensor ", spec.name, ", so it is no file of logits"));
    tensors.push_back(stored->map(spec.name));
    if (tensors.back().dtype() != spec.dtype) refuse(cat(spec.name, " is not ", config_name(spec.dtype)));
    if (tensors.back().shape() == spec.shape) continue;
    refuse(spec.name == "log_prob" && tensors.back().dim(0) == spec.shape[0]
               ? cat("is of a model with ", tensors.back().dim(1), " tokens in its vocabulary, not ", vocab)
               : "is of other texts");
  }
  const auto* length = tensors[0].as<int64_t>();
  const auto* id = tensors[1].as<int32_t>();
  for (const auto& sequence : sequences) {
    if (*length++ != static_cast<int64_t>(sequence.size()) || !std::equal(sequence.begin(), sequence.end(), id))
      refuse("is of other texts");
    id += sequence.size();
  }
  scale_ = tensors[2];
  least_ = tensors[3];
  top_ = tensors[4];
  log_prob_ = tensors[5];
  file_ = std::move(stored);
  divergences_.resize(positions_.back());
  same_top_.resize(positions_.back());
}

void DivergenceMeter::add(size_t sequence, int64_t first, int64_t rows, const float* log_p) {
  parallel_for(rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t at = positions_[sequence] + first + row;
      const float* const p = log_p + row * vocab_;
      const uint16_t* const code = log_prob_.as<uint16_t>() + at * vocab_;
      const float scale = scale_.as<float>()[at], least = least_.as<float>()[at];
      double sum = 0;
      for (int64_t i = 0; i < vocab_; ++i) {
        const float original = log_probability(scale, least, code[i]);
        if (original > -kSpan) sum += static_cast<double>(std::exp(original)) * static_cast<double>(original - p[i]);
      }
      divergences_[at] = sum;
      same_top_[at] = top_of(p, vocab_) == top_.as<int32_t>()[at];
    }
  });
  file_->release_pages();
}

Divergence DivergenceMeter::take() {
  const auto n = static_cast<double>(divergences_.size());
  Divergence result;
  result.mean = std::accumulate(divergences_.begin(), divergences_.end(), 0.0) / n;
  result.same_top = static_cast<double>(std::accumulate(same_top_.begin(), same_top_.end(), int64_t{0})) / n;
  std::vector<double> sorted = divergences_;
  std::sort(sorted.begin(), sorted.end());
  result.median = percentile(sorted, 0.5);
  result.p99 = percentile(sorted, 0.99);
  result.p999 = percentile(sorted, 0.999);
  return result;
}

}  // namespace roundhouse
