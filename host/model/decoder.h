// SPDX-License-Identifier: Apache-2.0
// The decoder in libtorch: embeddings, one block at a time, final norm and head.
//
// Nothing here is thread-safe. Tensors that a block does not convert may borrow the checkpoint's mapped file and are
// read-only: replace a weight, never write into it.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>
#include <vector>

#include "host/base/tensor.h"
#include "host/model/architecture.h"
#include "host/model/attention.h"
#include "host/model/experts.h"
#include "host/model/finite.h"
#include "host/model/mlp.h"
#include "host/model/recurrent.h"
#include "host/model/torch_tensor.h"

namespace roundhouse {

// A weight that is loaded already, in the checkpoint's type; undefined: it is not.
using LoadedWeights = std::function<at::Tensor(const LinearInfo& linear)>;

class Block {
 public:
  // Loads the block's tensors, converts them to `dtype`, in which the block computes, and puts them on `device`.
  // Weights of linears that `loaded` gives are not loaded again.
  // Throws Error naming a tensor that is missing, of another shape than the architecture says, or not finite.
  Block(const Architecture& architecture, int64_t index, TensorSource& source, at::ScalarType dtype, at::Device device,
        const LoadedWeights& loaded = {});

  // In the order of Architecture::block_linears.
  std::vector<LinearSlot>& linears() { return linears_.slots; }
  const std::vector<LinearSlot>& linears() const { return linears_.slots; }
  void set_input_hook(InputHook hook) { linears_.input_hook = std::move(hook); }
  // Of an expert's linears, in place of the other: they are applied to all tokens, and what comes of it is dropped.
  void set_expert_hook(InputHook hook) { expert_hook_ = std::move(hook); }

  // The weights of experts, which get little of a batch, get no gradients then: `hook` gets what they are products of.
  void set_expert_gradient_hook(WeightGradientHook hook) { linears_.expert_gradient_hook = std::move(hook); }

  // hidden: [batch, seq, Architecture::state_size()] in the block's dtype, like the result. Differentiable in hidden and in
  // the weights and biases of the slots, not in those of norms.
  at::Tensor forward(const at::Tensor& hidden, const PositionData& positions) const;

 private:
  struct Step {
    std::optional<LoadedNorm> norm_in, norm_mlp, norm_out, norm_sum;
    std::optional<Recurrent> recurrent;
    std::optional<Attention> attention;
    std::optional<Mlp> mlp;
    std::optional<Experts> experts;
    std::optional<std::pair<LayerInputInfo, size_t>> layer_input;  // its linears are in the slots from there on
    double scale;
    at::Tensor sum_scale;  // [1], or undefined
  };

  at::Tensor of_layer_input(const Step& step, const at::Tensor& x, const at::Tensor& passed_on) const;

  Linears linears_;
  int64_t hidden_, passed_on_;
  std::vector<Step> steps_;
  InputHook expert_hook_;
};

// Holds the tensors outside the blocks; the embedding stays where the source has it, the head is converted when first
// used. `architecture` and `source` must outlive it. libtorch computes with threads() of parallel.h from then on.
class Decoder {
 public:
  Decoder(const Architecture& architecture, TensorSource& source, at::ScalarType dtype, at::Device device);

  int64_t vocab() const { return architecture_.vocab_size(); }
  // ids: [batch, seq] int64 -> [batch, seq, Architecture::state_size()]
  at::Tensor embed(const at::Tensor& ids) const;
  PositionData positions(int64_t seqlen) const;
  Block block(int64_t index, const LoadedWeights& loaded = {}) const;
  // What the head multiplies, after the final norm. hidden: [..., Architecture::state_size()] -> [..., embedding_size]
  at::Tensor head_input(const at::Tensor& hidden) const;
  // Final norm and head. hidden: [..., Architecture::state_size()] -> logits [..., vocab]
  at::Tensor head(const at::Tensor& hidden) const;
  // Of the head, and of the blocks that are made from now on.
  void set_input_hook(InputHook hook) { input_hook_ = std::move(hook); }

 private:
  at::Tensor load(const std::string& name, at::IntArrayRef shape) const;
  at::Tensor passed_on(const at::Tensor& ids, const at::Tensor& hidden) const;

  const Architecture& architecture_;
  mutable FiniteSource source_;
  at::ScalarType dtype_;
  at::Device device_;
  at::Tensor embedding_;          // [vocab, embedding_size] in the checkpoint's type
  at::Tensor learned_positions_;  // [positions + offset, hidden], or undefined
  at::Tensor project_in_, project_out_, head_bias_;
  at::Tensor layer_projection_;     // of the blocks' own inputs
  mutable at::Tensor layer_table_;  // of them, in the checkpoint's type: from embed() to the next block()
  std::optional<LoadedNorm> embedding_norm_, final_norm_, layer_norm_;
  mutable at::Tensor head_;  // [vocab, embedding_size] in dtype_, once used
  InputHook input_hook_;
};

}  // namespace roundhouse
