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
  bool decides =
      false;  // a router or the gate of a shared expert: it stays as it is unless an entry of a recipe names it
  bool float32 = false;  // it computes in float32 at least
};

enum class NormKind { kRms, kLayer };  // an RMS norm has a weight and no bias

struct NormInfo {
  std::string name;
  NormKind kind = NormKind::kRms;
  int64_t size = 0;  // features normed together
  double eps = 0;
  bool has_weight = true, has_bias = false;
};

enum class Activation { kSilu, kGelu, kGeluTanh, kRelu, kSigmoid };

// Causal self-attention. Query heads share key and value heads in groups of heads / kv_heads.
struct AttentionInfo {
  LinearInfo q, k, v, o;
  // Over each head's features, or over all heads' at once: NormInfo::size tells.
  std::optional<NormInfo> q_norm, k_norm;
  // A position sees itself and the sliding_window - 1 positions before it.
  std::optional<int64_t> sliding_window;
};

// Gate and up are cut off at `limit`: down((up(x) + 1) * gate(x) * sigmoid(alpha * gate(x))).
struct ClampedSwiglu {
  double limit = 0, alpha = 0;
};

// Gated: down(activation(gate(x)) * up(x)). Plain: down(activation(up(x))).
struct MlpInfo {
  std::optional<LinearInfo> gate;
  LinearInfo up, down;
  Activation activation = Activation::kSilu;
  std::optional<ClampedSwiglu> clamped = std::nullopt;  // in place of `activation`
};

// Which experts a token goes to, and what weights their outputs have.
struct RouterInfo {
  enum class Scores { kSoftmax, kSigmoid, kSparsemixer };
  LinearInfo linear;  // a row an expert
  Scores scores = Scores::kSoftmax;
  int64_t top_k = 0;
  bool normalize = false;       // the weights of a token's experts add up to 1
  bool weigh_inputs = false;    // not the outputs
  double scale = 1;             // of the weights
  double jitter = 0;            // sparsemixer: an expert counts within this share of the best, twice over
  std::string correction_bias;  // a tensor that is added to the scores for the choice alone; "": there is none
  // Only experts of a token's top_groups best groups are chosen. A group is as good as its best expert, or as the sum
  // of its best two.
  int64_t groups = 1, top_groups = 1;
  bool by_best_two = true;
};

// How a checkpoint may hold all experts' weights in one tensor, and their biases in another.
struct StackedExperts {
  std::string name, bias;                  // of the tensors; bias "": there is none
  std::vector<std::string> parts;          // the linears, "{}" stands for the expert: their rows are a matrix's rows,
  bool interleaved = false;                // in turns, or one linear's below the other's
  std::optional<bool> transposed = false;  // each matrix is; nothing: its shape tells
};

// The weighted sum of a token's experts, and sigmoid(shared_gate(x)) * shared(x).
struct ExpertsInfo {
  RouterInfo router;
  std::vector<MlpInfo> experts;  // all alike
  std::vector<StackedExperts> stacked;
  std::optional<MlpInfo> shared;
  std::optional<LinearInfo> shared_gate;  // a row
};

// hidden = norm_sum(hidden + norm_out(attention(x) + mlp(x))), x = norm_in(hidden), without what is not there; experts
// stand in the MLP's place.
struct StepInfo {
  std::optional<NormInfo> norm_in, norm_out, norm_sum;
  std::optional<AttentionInfo> attention;
  std::optional<MlpInfo> mlp;
  std::optional<ExpertsInfo> experts;
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

// The experts of the first block that has some; nullptr: none has.
inline const ExpertsInfo* first_experts(const DecoderInfo& info) {
  for (const BlockInfo& block : info.blocks)
    for (const StepInfo& step : block.steps)
      if (step.experts) return &*step.experts;
  return nullptr;
}

}  // namespace roundhouse
