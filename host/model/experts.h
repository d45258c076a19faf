// SPDX-License-Identifier: Apache-2.0
// A mixture of experts in libtorch: its linears are slots of its block.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <optional>
#include <vector>

#include "host/model/linears.h"
#include "host/model/loading.h"
#include "host/model/mlp.h"
#include "host/model/structure.h"

namespace roundhouse {

// [tokens, top_k]: the experts that each token goes to, and their weights.
struct Routing {
  at::Tensor experts, weights;
};
// logits: [tokens, experts], in which the result is differentiable. correction_bias: [experts], or undefined.
Routing route(const RouterInfo& router, const at::Tensor& logits, const at::Tensor& correction_bias);

class Experts {
 public:
  // Its linears are those of `info`, in the slots from `first` on. correction_bias: [experts], or undefined.
  Experts(const ExpertsInfo& info, size_t first, at::Tensor correction_bias, const Loader& load);

  // x: [..., hidden]. An expert's linears are applied to the tokens that are routed to it, in their order; without any,
  // they are not. all_tokens, where it is set: they are applied to all tokens before, with this hook, and nothing comes
  // of that.
  at::Tensor forward(const Linears& linears, const at::Tensor& x, const InputHook& all_tokens) const;

 private:
  at::Tensor for_router(const at::Tensor& tokens) const;

  RouterInfo info_;
  at::Tensor correction_bias_, input_scales_, expert_scales_;
  std::optional<LoadedNorm> router_norm_, norm_in_, norm_out_, shared_norm_in_, shared_norm_out_;
  size_t router_;
  std::vector<Mlp> experts_;
  std::optional<Mlp> shared_;
  size_t shared_gate_ = 0;
  bool gated_;
  std::optional<size_t> latent_in_, latent_out_;
};

}  // namespace roundhouse
