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
  // A router or the gate of a shared expert: it stays as it is unless an entry of a recipe names it.
  bool decides = false;
  bool float32 = false;     // it computes in float32 at least
  double output_scale = 1;  // what comes out, bias and all, is multiplied with it
  bool transposed = false;  // checkpoints store its weight as [in_features, out_features]
};

enum class NormKind { kRms, kLayer };  // an RMS norm has no bias

struct NormInfo {
  std::string name;
  NormKind kind = NormKind::kRms;
  int64_t size = 0;   // features normed together
  int64_t heads = 1;  // that have a weight of their own: [heads, size] where there are several
  double eps = 0;
  bool has_weight = true, has_bias = false;
  bool plus_one = false;  // what is stored is the weight less one
  bool float32 = false;   // RMS: the product with the weight is rounded to the model's type, and not what it is made of
};

enum class Activation { kSilu, kGelu, kGeluTanh, kRelu, kSquaredRelu, kSigmoid, kSoftplus, kExp, kXielu };

// How config.json's rope_type changes the frequencies theta^(-2i/dims).
struct RotaryInfo {
  enum class Scaling { kNone, kLinear, kLlama3, kYarn, kLongrope, kProportional };
  int64_t dims = 0;          // the first features of each head, the rest are left alone
  bool interleaved = false;  // pairs are (2i, 2i + 1), else (i, i + dims/2)
  double theta = 0;
  Scaling scaling = Scaling::kNone;
  double factor = 1;
  double low_freq_factor = 0, high_freq_factor = 0;  // llama3
  double beta_fast = 32, beta_slow = 1;              // yarn
  bool truncate = true;                              // yarn: its corrected range ends at whole features
  double attention_factor = 1;                       // yarn, longrope: of cosines and sines
  double long_attention_factor = 1;                  // longrope: for texts beyond original_positions
  double scores_factor = 1;                          // yarn: of attention's scores, where they ask for it
  int64_t original_positions = 0;                    // llama3, yarn, longrope
  int64_t turning = 0;                               // proportional: the pairs that turn, of all
  // longrope: divisors of the frequencies for texts up to original_positions, and for longer ones
  std::vector<double> short_factors, long_factors;
  bool operator==(const RotaryInfo&) const = default;
};

// Queries grow with their position p: by 1 + beta ln(1 + floor((p + offset) / positions)).
struct LengthScaleInfo {
  double beta = 0;
  int64_t positions = 0, offset = 0;
  bool operator==(const LengthScaleInfo&) const = default;
};

// Scores get slope * scale * position, with a slope for each head.
struct AlibiInfo {
  double scale = 1;
  bool bfloat16 = false;  // slopes and products are rounded to it
};

// Keys and values from a latent that all heads share, and the rotated features of a key apart (DeepSeek's MLA). Of each
// head's features the last `rope` are rotated. Queries may come from a latent as well.
struct LatentInfo {
  int64_t rank = 0;  // of keys and values
  int64_t nope = 0, rope = 0, value = 0;
  std::optional<LinearInfo> q_a;  // then AttentionInfo::q reads its output, normed
  std::optional<NormInfo> q_norm;
  LinearInfo kv_a, kv_b;  // [rank + rope, hidden], [heads * (nope + value), rank]
  NormInfo kv_norm;
};

// How one linear that is q, k and v has its rows: those of q, of k, of v; or for each key head its queries, k, v.
enum class FusedLayout { kRows, kGroups };

// Causal self-attention. Query heads share key and value heads in groups of heads / kv_heads.
struct AttentionInfo {
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  // Apart, or one that is all three. Without v the keys, before their norm, are the values.
  std::optional<LinearInfo> q, k, v, qkv;
  FusedLayout layout = FusedLayout::kRows;
  std::optional<LatentInfo> latent;  // in place of k and v
  LinearInfo o;
  // Over each head's features, or over all heads' at once: NormInfo::size tells.
  std::optional<NormInfo> q_norm, k_norm, v_norm;
  bool norms_after_rotary = false;
  std::optional<RotaryInfo> rotary;
  std::optional<LengthScaleInfo> length_scale;
  double input_scale = 1;       // of what q, k and v read
  std::optional<double> scale;  // of the scores; else 1 / sqrt(head_dim)
  std::optional<double> softcap;
  std::string sinks;  // a tensor [heads] of scores that take part in the softmax and give no value; "": none
  std::optional<AlibiInfo> alibi;
  // q's rows are twice as many: each head's queries, then what its output is multiplied with, through a sigmoid.
  bool output_gate = false;
  // A position sees itself and the sliding_window - 1 positions before it; `chunked`: those of them that are in its
  // chunk of so many positions.
  std::optional<int64_t> sliding_window;
  bool chunked = false;
  // Its keys and values, normed and rotated, are passed on to later blocks, or are those of an earlier one, and k and v are
  // not there: where they begin in what is passed on (DecoderInfo::passed_on), kv_heads * head_dim features of each.
  std::optional<int64_t> kv_to, kv_from;
  // With kv_from: the k and v that a checkpoint may store for it all the same, and their norms. Nothing reads them.
  std::vector<std::string> unused;

  std::vector<LinearInfo> linears() const;  // in the order in which they are computed
  // It needs a mask even where a position sees all before it.
  bool needs_mask() const { return softcap.has_value() || !sinks.empty(); }
};

// Gate and up are cut off at `limit`: down((up(x) + 1) * gate(x) * sigmoid(alpha * gate(x))).
struct ClampedSwiglu {
  double limit = 0, alpha = 0;
};

// Gated: down(activation(gate(x)) * up(x)). Plain: down(activation(up(x))).
struct MlpInfo {
  std::optional<LinearInfo> gate;
  LinearInfo up, down;
  bool fused = false;  // up's rows are those of gate, then of up
  Activation activation = Activation::kSilu;
  std::string activation_name;                          // of the module of its parameters, where it has some
  std::optional<ClampedSwiglu> clamped = std::nullopt;  // in place of `activation`; gated, not fused

  std::vector<LinearInfo> linears() const;
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
  // What it reads is normed, multiplied with a tensor [hidden] ("": with none), and divided.
  std::optional<NormInfo> norm;
  std::string input_scales;
  double input_divisor = 1;
  std::string expert_scales;  // a tensor [experts] that multiplies the weights in the end; "": none
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
  bool only = false;                       // engines do not look for the experts one by one
};

// norm_out(the weighted sum of a token's experts, of norm_in(x)), and shared_norm_out(sigmoid(shared_gate(x)) *
// shared(shared_norm_in(x))), without what is not there.
struct ExpertsInfo {
  RouterInfo router;
  std::vector<MlpInfo> experts;  // all alike
  std::vector<StackedExperts> stacked;
  std::optional<MlpInfo> shared;
  std::optional<LinearInfo> shared_gate;  // a row
  std::optional<NormInfo> norm_in, norm_out, shared_norm_in, shared_norm_out;
  // What experts, but for the shared one, read is latent_in(x), and latent_out is applied to their weighted sum.
  std::optional<LinearInfo> latent_in, latent_out;

  // The router, latent_in, the experts, latent_out, the shared expert, its gate.
  std::vector<LinearInfo> linears() const;
  std::vector<std::string> tensors() const;  // all but those of the linears
};

// A convolution over time of each channel alone: [channels, 1, kernel]. A position sees itself and the kernel - 1 before.
struct ConvInfo {
  std::string name;
  int64_t channels = 0, kernel = 0;
  bool has_bias = false;
};

// What mixes positions by a state that they pass on, in place of attention or beside it.
//   kShortConv: out(c * conv(b * x)), where in's rows are those of b, c, x.
//   kDeltaRule: out(norm(y) * silu(z)), y by the gated delta rule (arXiv 2412.06464) from activation(conv(q, k, v)).
//   kMamba2:    out(norm(y * silu(z))), y by the state space duality (arXiv 2405.21060) from activation(conv(x, B, C)).
// In gated_scan.h's words Mamba2's C, B and x are q, k and v, and its groups key heads.
struct RecurrentInfo {
  enum class Kind { kShortConv, kDeltaRule, kMamba2 };
  Kind kind = Kind::kShortConv;
  // One; of the delta rule four, with the rows of q, k and v, of z, of b, of a, or two, with those of q, k, v and z, and
  // of b and a, key head by key head. Mamba2's rows are those of z, x, B, C, dt.
  std::vector<LinearInfo> in;
  LinearInfo out;
  ConvInfo conv;
  // Heads share keys in groups of heads / key_heads.
  int64_t key_heads = 0, heads = 0, key_dim = 0, head_dim = 0;
  Activation activation = Activation::kSilu;
  std::string a_log, dt_bias, d;  // tensors [heads]; of Mamba2 alone: d
  std::optional<NormInfo> norm;   // of a head's features; of Mamba2's, of those that share keys
  bool norm_before_gate = false;  // Mamba2
  double dt_min = 0;              // Mamba2: limits of dt
  std::optional<double> dt_max;   // nothing: none
  double input_scale = 1;         // Mamba2: of what `in` reads
  std::vector<double> scales;     // Mamba2: of z, x, B, C, dt as they come out of `in`; empty: none

  std::vector<LinearInfo> linears() const;
  std::vector<std::string> tensors() const;  // all but those of the linears
};

// out(activation(gate(x)) * the block's own input), of what is passed on (DecoderInfo::passed_on).
struct LayerInputInfo {
  LinearInfo gate, out;
  Activation activation = Activation::kSilu;
  int64_t at = 0;  // where its own input begins, of gate's out_features

  std::vector<LinearInfo> linears() const;
};

// hidden = norm_sum(hidden + scale * norm_out(attention(norm_in(hidden)) + mlp(norm_mlp(hidden)))), without what is not
// there; without norm_mlp the MLP reads what attention reads. What is recurrent reads that too, and is added, and so is
// the part of the block's own input. Experts stand in the MLP's place.
struct StepInfo {
  std::optional<NormInfo> norm_in, norm_mlp, norm_out, norm_sum;
  std::optional<RecurrentInfo> recurrent;
  std::optional<AttentionInfo> attention;
  std::optional<MlpInfo> mlp;
  std::optional<ExpertsInfo> experts;
  std::optional<LayerInputInfo> layer_input;
  double scale = 1;
  std::string sum_scale;  // a tensor of one element that multiplies the result; "": none
};

struct BlockInfo {
  std::vector<StepInfo> steps;
};

struct LearnedPositionsInfo {
  std::string name;    // weight [positions + offset, hidden]
  int64_t offset = 0;  // position p uses row p + offset
};

// An input of each block's own: (norm(projection(e) / sqrt(hidden)) + sqrt(size) * table[token]) / sqrt(2), of the
// embedding e, block after block.
struct LayerInputsInfo {
  std::string table;  // weight [vocab, blocks * size]
  int64_t vocab = 0, size = 0;
  LinearInfo projection;
  NormInfo norm;
};

struct DecoderInfo {
  std::string family;
  int64_t vocab = 0, hidden = 0, intermediate = 0, positions = 0;
  int64_t heads = 0, kv_heads = 0, head_dim = 0;

  std::string embedding;       // weight [vocab, embedding_size]
  int64_t embedding_size = 0;  // with the two projections where it differs from hidden
  std::optional<LinearInfo> project_in, project_out;
  std::optional<NormInfo> embedding_norm;
  double embedding_scale = 1;
  std::optional<LayerInputsInfo> layer_inputs;
  // Features that stand behind the hidden state from the embedding to the last block: the blocks' own inputs, then keys
  // and values that blocks pass on.
  int64_t passed_on = 0;
  // Of blocks without and with a sliding window.
  std::optional<RotaryInfo> rotary, window_rotary;
  std::optional<LearnedPositionsInfo> learned_positions;

  std::string block_prefix;  // "model.layers"
  std::vector<BlockInfo> blocks;

  std::optional<NormInfo> final_norm;
  LinearInfo head;
  bool tied_head = false;  // the head's weight is the embedding's
  // Logits are multiplied with the one and divided by the other.
  std::optional<double> logit_scale, logit_divisor;
  std::optional<double> logit_softcap;

  std::vector<std::string> warnings;  // what config.json says in vain

  // Whether the positions of texts of these two lengths are alike, so that one may be padded to the other's.
  bool same_positions(int64_t length, int64_t other) const;
};

// The experts of the first block that has some; nullptr: none has.
inline const ExpertsInfo* first_experts(const DecoderInfo& info) {
  for (const BlockInfo& block : info.blocks)
    for (const StepInfo& step : block.steps)
      if (step.experts) return &*step.experts;
  return nullptr;
}

}  // namespace roundhouse
