// SPDX-License-Identifier: Apache-2.0
// The decoder in libtorch: embeddings, one block at a time, final norm and head.
//
// Nothing here is thread-safe. Tensors that a block does not convert may borrow the checkpoint's mapped file and are
// read-only: replace a weight, never write into it.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <optional>
#include <vector>

#include "host/base/tensor.h"
#include "host/model/architecture.h"
#include "host/model/experts.h"
#include "host/model/finite.h"
#include "host/model/input_hook.h"
#include "host/model/torch_tensor.h"

namespace roundhouse {

struct LinearSlot {
  LinearInfo info;
  at::Tensor weight;  // [out, in]
  at::Tensor bias;    // [out], or undefined
};

// What attention needs to know of the positions 0 to seqlen-1, computed once for all blocks.
struct PositionData {
  int64_t seqlen = 0;
  at::Tensor cos, sin;                  // [seqlen, 1, rotary dims]; undefined without rotary positions
  std::map<int64_t, at::Tensor> masks;  // for windows below seqlen: [seqlen, seqlen], 0 where seen and -inf elsewhere
};

struct LoadedNorm {
  NormInfo info;
  at::Tensor weight, bias;
  at::Tensor operator()(const at::Tensor& x) const;
};

class Block {
 public:
  // Loads the block's tensors, converts them to `dtype`, in which the block computes, and puts them on `device`.
  // Throws Error naming a tensor that is missing, of another shape than the architecture says, or not finite.
  Block(const Architecture& architecture, int64_t index, TensorSource& source, at::ScalarType dtype, at::Device device);

  // In the order of Architecture::block_linears.
  std::vector<LinearSlot>& linears() { return linears_; }
  const std::vector<LinearSlot>& linears() const { return linears_; }
  void set_input_hook(InputHook hook) { input_hook_ = std::move(hook); }
  // Of an expert's linears, in place of the other: they are applied to all tokens, and what comes of it is dropped.
  void set_expert_hook(InputHook hook) { expert_hook_ = std::move(hook); }

  // hidden: [batch, seq, hidden] in the block's dtype, like the result. Differentiable in hidden and in the weights and
  // biases of the slots, not in those of norms.
  at::Tensor forward(const at::Tensor& hidden, const PositionData& positions) const;

 private:
  struct Attention {
    size_t q, k, v, o;  // slots
    std::optional<LoadedNorm> q_norm, k_norm;
    std::optional<int64_t> sliding_window;
  };
  struct Step {
    std::optional<LoadedNorm> norm_in, norm_out, norm_sum;
    std::optional<Attention> attention;
    std::optional<MlpSlots> mlp;
    std::optional<Experts> experts;
  };

  at::Tensor linear(size_t slot, const at::Tensor& input) const { return linear(slot, input, input_hook_); }
  at::Tensor linear(size_t slot, const at::Tensor& input, const InputHook& hook) const;
  at::Tensor heads_of(size_t slot, const at::Tensor& input, const std::optional<LoadedNorm>& norm) const;
  at::Tensor attend(const Attention& attention, const at::Tensor& x, const PositionData& positions) const;

  int64_t head_dim_;
  bool grouped_;  // query heads share key and value heads
  std::vector<LinearSlot> linears_;
  std::vector<Step> steps_;
  InputHook input_hook_, expert_hook_;
};

// Holds the tensors outside the blocks; the embedding stays where the source has it, the head is converted when first
// used. `architecture` and `source` must outlive it.
class Decoder {
 public:
  Decoder(const Architecture& architecture, TensorSource& source, at::ScalarType dtype, at::Device device);

  // ids: [batch, seq] int64 -> [batch, seq, hidden]
  at::Tensor embed(const at::Tensor& ids) const;
  PositionData positions(int64_t seqlen) const;
  Block block(int64_t index) const;
  // What the head multiplies, after the final norm. hidden: [..., hidden] -> [..., embedding_size]
  at::Tensor head_input(const at::Tensor& hidden) const;
  // Final norm and head. hidden: [..., hidden] -> logits [..., vocab]
  at::Tensor head(const at::Tensor& hidden) const;
  // Of the head, and of the blocks that are made from now on.
  void set_input_hook(InputHook hook) { input_hook_ = std::move(hook); }

 private:
  at::Tensor load(const std::string& name, at::IntArrayRef shape) const;

  const Architecture& architecture_;
  mutable FiniteSource source_;
  at::ScalarType dtype_;
  at::Device device_;
  at::Tensor embedding_;          // [vocab, embedding_size] in the checkpoint's type
  at::Tensor learned_positions_;  // [positions + offset, hidden], or undefined
  at::Tensor project_in_, project_out_, head_bias_;
  std::optional<LoadedNorm> final_norm_;
  mutable at::Tensor head_;  // [vocab, embedding_size] in dtype_, once used
  InputHook input_hook_;
};

}  // namespace roundhouse
