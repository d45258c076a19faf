// SPDX-License-Identifier: Apache-2.0
// A mixture of experts in libtorch: its linears are slots of its block.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <functional>
#include <optional>
#include <vector>

#include "host/model/structure.h"

namespace roundhouse {

// An MLP by the slots of its linears.
struct MlpSlots {
  std::optional<size_t> gate;
  size_t up = 0, down = 0;
  Activation activation = Activation::kSilu;
  std::optional<ClampedSwiglu> clamped = std::nullopt;

  // Takes the next slots.
  MlpSlots(const MlpInfo& info, size_t& next);
};

// The linear of a slot.
using ApplyLinear = std::function<at::Tensor(size_t slot, const at::Tensor& input)>;

at::Tensor feed_forward(const MlpSlots& mlp, const ApplyLinear& linear, const at::Tensor& x);

// [tokens, top_k]: the experts that each token goes to, and their weights.
struct Routing {
  at::Tensor experts, weights;
};
// logits: [tokens, experts], in which the result is differentiable. correction_bias: [experts], or undefined.
Routing route(const RouterInfo& router, const at::Tensor& logits, const at::Tensor& correction_bias);

class Experts {
 public:
  // Takes the slots of the router, the experts, the shared expert and its gate.
  Experts(const ExpertsInfo& info, at::Tensor correction_bias, size_t& next);

  // x: [..., hidden]. An expert's linears are applied to the tokens that are routed to it, in their order; without any,
  // they are not. all_tokens: they are applied to all tokens before, and nothing comes of that.
  at::Tensor forward(const at::Tensor& x, const ApplyLinear& linear, const ApplyLinear* all_tokens = nullptr) const;

 private:
  RouterInfo info_;
  at::Tensor correction_bias_;
  size_t router_;
  std::vector<MlpSlots> experts_;
  std::optional<MlpSlots> shared_;
  std::optional<size_t> shared_gate_;
};

}  // namespace roundhouse
