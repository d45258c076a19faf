// SPDX-License-Identifier: Apache-2.0
// Parts of a loaded block that mix positions by convolutions and by states which they pass on.
#pragma once

#include <optional>

#include "host/model/linears.h"
#include "host/model/loading.h"

namespace roundhouse {

class Recurrent {
 public:
  // Its linears are those of `info`, in the slots from `first` on.
  Recurrent(RecurrentInfo info, size_t first, const Loader& load);

  // x, result: [batch, seq, hidden]
  at::Tensor forward(const Linears& linears, const at::Tensor& x) const;

 private:
  at::Tensor short_conv(const Linears& linears, const at::Tensor& x) const;
  at::Tensor delta_rule(const Linears& linears, const at::Tensor& x) const;
  at::Tensor mamba2(const Linears& linears, const at::Tensor& x) const;
  // x, result: [batch, seq, channels]
  at::Tensor convolve(const at::Tensor& x) const;
  // [batch, seq, heads...] -> [batch, key_heads, group, seq, features], where features is 0: without them.
  at::Tensor split_heads(const at::Tensor& x, int64_t group, int64_t features) const;

  RecurrentInfo info_;
  size_t first_;
  // In the type of sums, but for dt_bias_ and scales_.
  at::Tensor conv_weight_, conv_bias_;  // [kernel, channels], [channels]
  at::Tensor norm_weight_;              // [key_heads, features] of Mamba2, [head_dim] of the delta rule, in its type
  at::Tensor a_, dt_bias_, d_;          // [heads]; a = -exp(a_log)
  at::Tensor scales_;                   // of the rows of `in`
};

}  // namespace roundhouse
