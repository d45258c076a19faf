// SPDX-License-Identifier: Apache-2.0
#include "search.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/cpu/ggml.h"

// The weights add up those by which llama.cpp and auto-round search and a plain (importance-weighted) square error, so
// that the result is good by each of them.

namespace roundhouse::ggml {

using kernels::GgmlBlock;
using kernels::GgmlLayer;

namespace {

// Σ x² / n.
float mean_square(const float* x, int64_t n) {
  float total = 0;
  for (int64_t j = 0; j < n; ++j) total += x[j] * x[j];
  return total / n;
}

// Of one block.
struct Weights {
  float *square, *absolute, *fit;
};

// The weights of a block's errors; importance with no zeros, or nullptr. All are near 1 in magnitude. Those of absolute
// errors, and of fits apart, are q2_k's alone, without importance.
void block_weights(BlockType type, const BlockFacts& facts, const float* x, float variance, const float* importance,
                   float row_mean_square, const Weights& out) {
  const int n = facts.block_cols;
  const float inverse = 1 / std::sqrt(variance);
  if (importance) {
    float largest = 0;
    for (int j = 0; j < n; ++j) largest = std::max(largest, importance[j]);
    const bool plain = type == BlockType::kQ6_K || type == BlockType::kQ8_0;
    const float spread = facts.super_bits == 0 ? row_mean_square : type == BlockType::kQ2_K ? variance : 2 * variance;
    const float share = type == BlockType::kQ3_K ? 0.9f : 0.15f;
    for (int j = 0; j < n; ++j) {
      const float relative = importance[j] / largest;
      out.square[j] = plain ? relative : relative * (std::sqrt(spread + x[j] * x[j]) / std::sqrt(spread) + share);
    }
    return;
  }
  for (int i = 0; i < n; i += facts.group_cols) {
    const float deviation = std::sqrt(mean_square(x + i, facts.group_cols));
    for (int j = i; j < i + facts.group_cols; ++j) {
      const float relative = std::fabs(x[j]) * inverse;
      switch (type) {
        case BlockType::kQ2_K:
          out.square[j] = 0.2f;
          out.absolute[j] = std::fabs(x[j]);
          out.fit[j] = relative + 0.2f;
          break;
        case BlockType::kQ3_K:
          out.square[j] = relative * relative + 1;
          break;
        case BlockType::kQ6_K:
          out.square[j] = relative * relative + 0.7f;
          break;
        case BlockType::kQ4_K:
        case BlockType::kQ5_K:
          out.square[j] = relative + deviation * inverse + 1;
          break;
        default:
          out.square[j] = 1;
      }
    }
  }
}

}  // namespace

GgmlLayer layer_of(BlockType type) {
  const BlockFacts fact = facts(type);
  GgmlLayer layer{};
  layer.bits = fact.bits;
  layer.block_cols = fact.block_cols;
  layer.group_cols = fact.group_cols;
  layer.super_bits = fact.super_bits;
  layer.symmetric = fact.symmetric;
  layer.positive = type == BlockType::kQ8_0;
  return layer;
}

void search_row(BlockType type, const float* w, int64_t cols, const float* importance, GgmlBlock* out) {
  const BlockFacts f = facts(type);
  std::vector<float> positive;
  if (importance && *std::min_element(importance, importance + cols) == 0) {
    positive.assign(importance, importance + cols);
    float least = HUGE_VALF;
    for (float x : positive)
      if (x > 0) least = std::min(least, x);
    std::replace(positive.begin(), positive.end(), 0.0f, least);
    importance = std::isfinite(least) ? positive.data() : nullptr;
  }

  // Blocks of zeros are not searched.
  std::vector<float> x(cols), square(cols), absolute(cols), fit(cols);
  std::vector<int64_t> searched;
  const float row_mean_square = mean_square(w, cols);
  for (int64_t block = 0; block < cols / f.block_cols; ++block) {
    const int64_t from = block * f.block_cols, to = static_cast<int64_t>(searched.size()) * f.block_cols;
    out[block] = {};
    if (f.super_bits == 0) out[block].scale_code[0] = out[block].minimum_code[0] = 1;
    const float variance = mean_square(w + from, f.block_cols);
    if (!(variance > 0)) continue;
    searched.push_back(block);
    std::copy_n(w + from, f.block_cols, &x[to]);
    block_weights(type, f, w + from, variance, importance ? importance + from : nullptr, row_mean_square,
                  {&square[to], &absolute[to], &fit[to]});
  }
  const auto count = static_cast<int64_t>(searched.size());
  const bool both = type == BlockType::kQ2_K && !importance;
  std::vector<GgmlBlock> found(count);
  kernels::ggml_cpu().search(layer_of(type),
                             {x.data(), square.data(), both ? absolute.data() : nullptr, (both ? fit : square).data()},
                             found.data(), 0, count);
  for (int64_t i = 0; i < count; ++i) out[searched[i]] = found[i];
}

}  // namespace roundhouse::ggml
