// SPDX-License-Identifier: Apache-2.0
// A decoder's structure with every number and tensor name filled in: a descriptor resolved against one config.json.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "host/base/stack.h"

namespace roundhouse {

// A linear layer. Its weight is the tensor name + ".weight", [out_features, in_features]; its bias name + ".bias".
struct LinearInfo {
  std::string name;      // "model.layers.0.self_attn.q_proj"
  std::string role;      // "q_proj": the descriptor's key for it
  std::string siblings;  // linears of a block with the same non-empty label read the same input ("qkv", "gate_up")
  int64_t out_features = 0, in_features = 0;
  bool has_bias = false;
  std::optional<StackPlace> stack = std::nullopt;  // of one of several experts
};

enum class NormKind { kRms, kLayer };  // an RMS norm has a weight and no bias

struct NormInfo {
  std::string name;
  NormKind kind = NormKind::kRms;
  int64_t size = 0;  // features normed together
  double eps = 0;
  bool has_weight = true, has_bias = false;
};

enum class Activation { kSilu, kGelu, kGeluTanh, kRelu };

// Causal self-attention. Query heads share key and value heads in groups of heads / kv_heads.
struct AttentionInfo {
  LinearInfo q, k, v, o;
  // Over each head's features, or over all heads' at once: NormInfo::size tells.
  std::optional<NormInfo> q_norm, k_norm;
  // A position sees itself and the sliding_window - 1 positions before it.
  std::optional<int64_t> sliding_window;
};

// Gated: down(activation(gate(x)) * up(x)). Plain: down(activation(up(x))).
struct MlpInfo {
  std::optional<LinearInfo> gate;
  LinearInfo up, down;
  Activation activation = Activation::kSilu;
};

// hidden = norm_sum(hidden + norm_out(attention(x) + mlp(x))), x = norm_in(hidden), without what is not there.
struct StepInfo {
  std::optional<NormInfo> norm_in, norm_out, norm_sum;
  std::optional<AttentionInfo> attention;
  std::optional<MlpInfo> mlp;
};

struct BlockInfo {
  std::vector<StepInfo> steps;
};

// How config.json's rope_type changes the frequencies theta^(-2i/dims).
struct RotaryInfo {
  enum class Scaling { kNone, kLinear, kLlama3, kYarn };
  int64_t dims = 0;  // the first features of each head, the rest are left alone
  double theta = 0;
  Scaling scaling = Scaling::kNone;
  double factor = 1;
  double low_freq_factor = 0, high_freq_factor = 0;  // llama3
  double beta_fast = 32, beta_slow = 1;              // yarn
  bool truncate = true;                              // yarn: its corrected range ends at whole features
  double attention_factor = 1;                       // yarn: of cosines and sines
  int64_t original_positions = 0;                    // llama3, yarn
};

struct LearnedPositionsInfo {
  std::string name;    // weight [positions + offset, hidden]
  int64_t offset = 0;  // position p uses row p + offset
};

struct DecoderInfo {
  std::string family;
  int64_t vocab = 0, hidden = 0, intermediate = 0, positions = 0;
  int64_t heads = 0, kv_heads = 0, head_dim = 0;

  std::string embedding;       // weight [vocab, embedding_size]
  int64_t embedding_size = 0;  // with the two projections where it differs from hidden
  std::optional<LinearInfo> project_in, project_out;
  std::optional<RotaryInfo> rotary;
  std::optional<LearnedPositionsInfo> learned_positions;

  std::string block_prefix;  // "model.layers"
  std::vector<BlockInfo> blocks;

  std::optional<NormInfo> final_norm;
  LinearInfo head;
  bool tied_head = false;  // the head's weight is the embedding's
};

}  // namespace roundhouse
