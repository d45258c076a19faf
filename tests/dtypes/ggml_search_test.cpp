// SPDX-License-Identifier: Apache-2.0
// The search for ggml's blocks against llama.cpp's own quantizer, by the finished block's error.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "host/checkpoint/safetensors.h"
#include "plugins/dtypes/ggml/block_layout.h"
#include "plugins/dtypes/ggml/search.h"

namespace roundhouse {
namespace {

using ggml::BlockFacts;
using ggml::BlockType;
using kernels::GgmlBlock;

constexpr BlockType kTypes[] = {BlockType::kQ4_0, BlockType::kQ4_1, BlockType::kQ5_0, BlockType::kQ5_1,
                                BlockType::kQ8_0, BlockType::kQ2_K, BlockType::kQ3_K, BlockType::kQ4_K,
                                BlockType::kQ5_K, BlockType::kQ6_K};

// A symmetric code is stored with this added.
int middle(const BlockFacts& facts) { return facts.symmetric ? 1 << (facts.bits - 1) : 0; }

std::vector<float> decode(BlockType type, const uint8_t* bytes, int64_t cols) {
  const BlockFacts& facts = ggml::facts(type);
  std::vector<float> out(cols);
  for (int64_t at = 0; at < cols; at += facts.block_cols, bytes += facts.block_bytes) {
    rh::ggml::Block block;
    uint8_t codes[kernels::kMostBlockCols];
    rh::ggml::with_type(static_cast<int>(type), [&](auto known) { rh::ggml::unpack<known()>(bytes, block, codes); });
    for (int i = 0; i < facts.block_cols; ++i) {
      const int group = i / facts.group_cols;
      const bool super = facts.super_bits != 0;
      const float scale = super ? block.d * block.scale_code[group] : block.d;
      const float minimum = facts.symmetric ? 0 : super ? block.dmin * block.minimum_code[group] : block.dmin;
      out[at + i] = scale * static_cast<float>(codes[i] - middle(facts)) - minimum;
    }
  }
  return out;
}

// The row as blocks, each element at its nearest code.
std::vector<uint8_t> searched_blocks(BlockType type, const float* w, int64_t cols, const float* importance) {
  const BlockFacts& facts = ggml::facts(type);
  std::vector<GgmlBlock> row(cols / facts.block_cols);
  ggml::search_row(type, w, cols, importance, row.data());
  std::vector<uint8_t> bytes(cols / facts.block_cols * facts.block_bytes);
  for (int64_t b = 0; b < cols / facts.block_cols; ++b) {
    uint8_t codes[kernels::kMostBlockCols];
    for (int i = 0; i < facts.block_cols; ++i) {
      const float scale = row[b].scale[i / facts.group_cols], minimum = row[b].minimum[i / facts.group_cols];
      const float code = scale == 0 ? 0 : std::nearbyint((w[b * facts.block_cols + i] + minimum) / scale);
      const float low = static_cast<float>(-middle(facts)), high = low + static_cast<float>((1 << facts.bits) - 1);
      codes[i] = static_cast<uint8_t>(std::clamp(code, low, high) + static_cast<float>(middle(facts)));
    }
    ggml::pack_block(type, row[b], codes, bytes.data() + b * facts.block_bytes);
  }
  return bytes;
}

std::vector<float> searched(BlockType type, const float* w, int64_t cols, const float* importance) {
  return decode(type, searched_blocks(type, w, cols, importance).data(), cols);
}

double mean_square(const float* w, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += double(w[i]) * w[i];
  return sum / double(n);
}

// The sum that llama.cpp's search of this type lowers.
double own_error(BlockType type, const float* w, const float* q, int64_t cols, const float* importance) {
  const BlockFacts& facts = ggml::facts(type);
  double sum = 0;
  for (int64_t i = 0; i < cols; ++i) {
    const double x = std::fabs(w[i]), error = std::fabs(double(q[i]) - w[i]);
    const double block = mean_square(w + i / facts.block_cols * facts.block_cols, facts.block_cols);
    double weight = importance ? importance[i] : 1, measure = error * error;
    if (importance && type != BlockType::kQ6_K && type != BlockType::kQ8_0) {
      const double spread = facts.super_bits == 0 ? mean_square(w, cols) : type == BlockType::kQ2_K ? block : 2 * block;
      weight *= std::sqrt(spread + x * x);
    } else if (!importance) {
      const double group = mean_square(w + i / facts.group_cols * facts.group_cols, facts.group_cols);
      if (type == BlockType::kQ2_K) measure = error;
      if (type == BlockType::kQ2_K) weight = x;
      if (type == BlockType::kQ3_K || type == BlockType::kQ6_K) weight = x * x;
      if (type == BlockType::kQ4_K || type == BlockType::kQ5_K) weight = x + std::sqrt(group);
    }
    sum += weight * measure;
  }
  return sum;
}

double plain_error(const float* w, const float* q, int64_t cols, const float* importance) {
  double sum = 0;
  for (int64_t i = 0; i < cols; ++i) sum += (importance ? importance[i] : 1.0) * std::pow(double(q[i]) - w[i], 2);
  return sum;
}

TEST(GgmlSearch, IsNoWorseThanLlamaCpp) {
  SafetensorsFolder recorded(TEST_DATA "/goldens/gguf_llama_cpp.safetensors");
  const Tensor importances = recorded.load("importance");
  for (const std::string weight_name : {"gaussian", "heavy_tailed"}) {
    const Tensor weight = recorded.load(weight_name);
    const int64_t cols = weight.dim(1);
    for (BlockType type : kTypes) {
      for (bool weighs : {false, true}) {
        const float* importance = weighs ? importances.as<float>() : nullptr;
        const std::string name =
            std::string(ggml::facts(type).name) + "." + weight_name + (weighs ? ".importance" : "");
        const Tensor blocks = recorded.load(name);
        double ours[2] = {}, theirs[2] = {};
        for (int64_t row = 0; row < weight.dim(0); ++row) {
          const float* w = weight.as<float>() + row * cols;
          const std::vector<float> q = searched(type, w, cols, importance);
          const std::vector<float> r = decode(type, blocks.as<uint8_t>() + row * blocks.dim(1), cols);
          const double own[2] = {own_error(type, w, q.data(), cols, importance),
                                 own_error(type, w, r.data(), cols, importance)};
          const double plain[2] = {plain_error(w, q.data(), cols, importance),
                                   plain_error(w, r.data(), cols, importance)};
          // Two measures pull q3_k apart; a single row may pay for the others there.
          const double slack = type == BlockType::kQ3_K ? 1.02 : 1.0001;
          EXPECT_LE(own[0], slack * own[1]) << name << " row " << row << ", by llama.cpp's weights";
          EXPECT_LE(plain[0], slack * plain[1]) << name << " row " << row << ", plain";
          ours[0] += own[0], theirs[0] += own[1];
          ours[1] += plain[0], theirs[1] += plain[1];
        }
        EXPECT_LE(ours[0], theirs[0]) << name << ", by llama.cpp's weights";
        EXPECT_LE(ours[1], theirs[1]) << name << ", plain";
      }
    }
  }
}

// FNV-1a of the blocks of both weights, without importance and with it. A model quantized again is the same file.
constexpr uint64_t kRecordedBlocks[][2] = {
    {0x81493edd944027ec, 0xe9191429e1782f82},  // q4_0
    {0x3e5d2deaf7151afc, 0x3f4903d7ef5867eb},  // q4_1
    {0x4ae8013e0dafa7dd, 0x709a1237799412a0},  // q5_0
    {0x872303ea3fd60598, 0xa679e6e8dc4227dc},  // q5_1
    {0x755a2598cc60b6b6, 0x8e8cbfff02c0dbe2},  // q8_0
    {0x282edfbb94b61d89, 0xaef3285640fb30d4},  // q2_k
    {0xd7bc650532d683cb, 0xe55354638aea0527},  // q3_k
    {0x797d9abb0407548a, 0x4762b2fb7c1aa3d2},  // q4_k
    {0x5764e0cedd0fded7, 0xc4ecd6fa636b8b20},  // q5_k
    {0xf1ce94cecaacc365, 0x39a0ae8cc69694ad},  // q6_k
};

TEST(GgmlSearch, BlocksAreThoseOfEarlierVersions) {
  SafetensorsFolder recorded(TEST_DATA "/goldens/gguf_llama_cpp.safetensors");
  const Tensor importances = recorded.load("importance");
  for (BlockType type : kTypes) {
    for (bool weighs : {false, true}) {
      uint64_t digest = 0xcbf29ce484222325;
      for (const char* name : {"gaussian", "heavy_tailed"}) {
        const Tensor weight = recorded.load(name);
        const int64_t cols = weight.dim(1);
        for (int64_t row = 0; row < weight.dim(0); ++row)
          for (uint8_t byte :
               searched_blocks(type, weight.as<float>() + row * cols, cols, weighs ? importances.as<float>() : nullptr))
            digest = (digest ^ byte) * 0x100000001b3;
      }
      EXPECT_EQ(digest, kRecordedBlocks[static_cast<int>(type)][weighs])
          << ggml::facts(type).name << (weighs ? " with importance" : "") << std::hex << ": 0x" << digest;
    }
  }
}

std::vector<std::vector<float>> odd_rows() {
  const int64_t cols = 512;
  std::vector<std::vector<float>> rows;
  for (float x : {0.0f, 1e-42f, -1e-42f, 1e-20f, 1e-7f, 0.3f, -0.3f, 1e6f, -1e6f, 1e30f}) rows.emplace_back(cols, x);
  rows.emplace_back(cols);
  rows.back()[300] = 1;
  rows.emplace_back(cols);
  for (int64_t i = 256; i < cols; ++i) rows.back()[i] = static_cast<float>(i % 7) * 1e-7f;
  return rows;
}

TEST(GgmlSearch, OddRowsGiveFiniteBlocks) {
  const std::vector<float> none(512), even(512, 2.0f), one = odd_rows()[10];
  for (BlockType type : kTypes) {
    for (const auto& row : odd_rows()) {
      for (const float* importance : {static_cast<const float*>(nullptr), none.data(), one.data(), even.data()}) {
        for (float x : searched(type, row.data(), 512, importance))
          ASSERT_TRUE(std::isfinite(x)) << ggml::facts(type).name << " of " << row[0];
      }
    }
  }
}

TEST(GgmlSearch, ConstantRowsAreNearlyExact) {
  for (BlockType type : kTypes) {
    for (float x : {0.3f, -0.3f, 7e-3f}) {
      const std::vector<float> row(512, x);
      for (float q : searched(type, row.data(), 512, nullptr))
        ASSERT_NEAR(q, x, 5e-3 * std::fabs(x)) << ggml::facts(type).name;
    }
  }
}

TEST(GgmlSearch, ImportanceMovesTheError) {
  SafetensorsFolder recorded(TEST_DATA "/goldens/gguf_llama_cpp.safetensors");
  const Tensor weight = recorded.load("gaussian"), importance = recorded.load("importance");
  const float *w = weight.as<float>(), *by = importance.as<float>();
  for (BlockType type : kTypes) {
    const auto with = searched(type, w, weight.dim(1), by), without = searched(type, w, weight.dim(1), nullptr);
    EXPECT_LT(plain_error(w, with.data(), weight.dim(1), by), plain_error(w, without.data(), weight.dim(1), by))
        << ggml::facts(type).name;
  }
}

}  // namespace
}  // namespace roundhouse
