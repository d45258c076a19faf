// SPDX-License-Identifier: Apache-2.0
// A model's divergence from the original: through the file, against sums in float64 and against llama.cpp's definition.
#include "host/run/divergence.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "host/base/error.h"
#include "host/checkpoint/safetensors.h"
#include "tests/temp_folder.h"

namespace roundhouse {
namespace {

constexpr int64_t kVocab = 700;

using Rows = std::vector<std::vector<float>>;

// Log probabilities, a row a position: those of `base`'s logits with some noise.
Rows log_probs(size_t rows, float spread, const Rows& base, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, spread);
  Rows out(rows, std::vector<float>(kVocab));
  for (size_t r = 0; r < rows; ++r) {
    double sum = 0;
    for (int64_t i = 0; i < kVocab; ++i) {
      out[r][i] = normal(random) + (base.empty() ? 0 : base[r][i]);
      sum += std::exp(static_cast<double>(out[r][i]));
    }
    for (float& value : out[r]) value -= static_cast<float>(std::log(sum));
  }
  return out;
}

class DivergenceTest : public testing::Test {
 protected:
  // Rows of log_probs() belong to the sequences' positions, one after the other.
  template <typename Object>
  void give(Object& object, void (Object::*take)(size_t, int64_t, int64_t, const float*), const Rows& rows) {
    size_t row = rows.size();
    for (size_t s = sequences_.size(); s-- > 0;)  // any order
      for (int64_t first = static_cast<int64_t>(sequences_[s].size()) - 2; first >= 0; --first)
        (object.*take)(s, first, 1, rows[--row].data());
  }
  void save(const Rows& original) {
    LogProbsWriter writer(file_, sequences_, kVocab);
    give(writer, &LogProbsWriter::write, original);
    writer.finish();
  }
  Divergence compare(const Rows& model) {
    DivergenceMeter meter(file_, sequences_, kVocab);
    give(meter, &DivergenceMeter::add, model);
    return meter.take();
  }

  TempFolder folder_;
  const std::filesystem::path file_ = folder_ / "logits";
  const Sequences sequences_{{1, 2, 3, 4, 5, 6, 7}, {8, 9}, {1, 5, 3, 2, 4, 6, 2, 1, 1, 2, 3, 4, 5}};
  const size_t positions_ = 6 + 1 + 12;
};

TEST_F(DivergenceTest, IsTheSumOverTheVocabulary) {
  for (const float spread : {0.3f, 2.0f, 6.0f}) {  // the last spans far more than 16 nats
    SCOPED_TRACE(spread);
    const Rows original = log_probs(positions_, spread, {}, 1),
               model = log_probs(positions_, 0.1f * spread, original, 2);
    std::vector<double> expected;
    int same = 0;
    for (size_t r = 0; r < positions_; ++r) {
      double sum = 0;
      for (int64_t i = 0; i < kVocab; ++i)
        sum += std::exp(double{original[r][i]}) * (double{original[r][i]} - double{model[r][i]});
      expected.push_back(sum);
      const auto top = [](const auto& row) { return std::max_element(row.begin(), row.end()) - row.begin(); };
      same += top(original[r]) == top(model[r]);
    }
    double mean = 0;
    for (const double value : expected) mean += value / static_cast<double>(positions_);
    std::sort(expected.begin(), expected.end());
    save(original);
    const Divergence found = compare(model);
    EXPECT_NEAR(found.mean, mean, 2e-4 * mean + 1e-6);
    EXPECT_NEAR(found.median, expected[9], 1e-3 * expected[9]);
    EXPECT_NEAR(found.p99, expected[17] + 0.82 * (expected[18] - expected[17]), 1e-3 * found.p99);
    EXPECT_NEAR(found.p999, expected[17] + 0.982 * (expected[18] - expected[17]), 1e-3 * found.p999);
    EXPECT_DOUBLE_EQ(found.same_top, same / static_cast<double>(positions_));
    const Divergence itself = compare(original);
    EXPECT_NEAR(itself.p999, 0, 2e-6);
    EXPECT_EQ(itself.same_top, 1);
  }
}

// tools/perplexity of llama.cpp: 16 bits over at most 16 nats below the largest logit, terms above -16 alone.
TEST_F(DivergenceTest, IsWhatLlamaCppDefines) {
  const Rows original = log_probs(positions_, 4, {}, 3), model = log_probs(positions_, 0.5, original, 4);
  double mean = 0;
  for (size_t r = 0; r < positions_; ++r) {
    const auto& row = original[r];
    const double largest = *std::max_element(row.begin(), row.end());
    const double least = std::max<double>(*std::min_element(row.begin(), row.end()), largest - 16);
    const double step = (largest - least) / 65535;
    for (int64_t i = 0; i < kVocab; ++i) {
      const double value = least + step * std::nearbyint(std::max(0.0, row[i] - least) / step);
      if (value > -16) mean += std::exp(value) * (value - model[r][i]) / static_cast<double>(positions_);
    }
  }
  save(original);
  EXPECT_NEAR(compare(model).mean, mean, 1e-5 + 1e-4 * mean);
}

TEST_F(DivergenceTest, TheFileSaysWhatItIsOf) {
  save(log_probs(positions_, 1, {}, 1));
  SafetensorsFolder stored(file_);
  EXPECT_EQ(stored.load("log_prob").shape(), (std::vector<int64_t>{19, kVocab}));
  EXPECT_EQ(stored.load("ids").as<int32_t>()[7], 8) << "the second sequence's first token";
  const auto message = [&](const Sequences& sequences, int64_t vocab) -> std::string {
    try {
      DivergenceMeter(file_, sequences, vocab);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  Sequences other = sequences_;
  EXPECT_EQ(message(other, kVocab), "");
  EXPECT_NE(message(other, kVocab + 1).find("is of a model with 700 tokens in its vocabulary, not 701"),
            std::string::npos);
  other[1][1] = 7;
  EXPECT_NE(message(other, kVocab).find("is of other texts"), std::string::npos);
  other[1].push_back(7);
  EXPECT_NE(message(other, kVocab).find("is of other texts"), std::string::npos);
}

}  // namespace
}  // namespace roundhouse
