// SPDX-License-Identifier: Apache-2.0
// Causal self-attention of a loaded block.
#pragma once

#include <optional>

#include "host/model/linears.h"
#include "host/model/loading.h"
#include "host/model/rotary.h"

namespace roundhouse {

class Attention {
 public:
  // Its linears are those of `info`, in the slots from `first` on.
  Attention(AttentionInfo info, size_t first, const Loader& load);

  // x, result: [batch, seq, hidden]; passed_on: [batch, seq, DecoderInfo::passed_on], or undefined where that is 0. Where
  // later blocks have its keys and values, they are put there.
  at::Tensor forward(const Linears& linears, const at::Tensor& x, const PositionData& positions,
                     at::Tensor& passed_on) const;

 private:
  // [batch, seq, heads, head_dim]; `gate` only where the output has one.
  struct Heads {
    at::Tensor q, k, v, gate;
  };
  Heads project(const Linears& linears, const at::Tensor& x, size_t& slot) const;
  Heads project_latent(const Linears& linears, const at::Tensor& x, size_t& slot, const PositionData& positions) const;
  void rotate(Heads& heads, const PositionData& positions) const;
  void share(Heads& heads, at::Tensor& passed_on) const;
  at::Tensor mix(const Heads& heads, const PositionData& positions) const;
  at::Tensor mix_capped(const Heads& heads, const at::Tensor& mask) const;

  AttentionInfo info_;
  size_t first_;
  std::optional<LoadedNorm> q_norm_, k_norm_, v_norm_, q_latent_norm_, kv_latent_norm_;
  at::Tensor sinks_;  // [heads], or undefined
};

}  // namespace roundhouse
