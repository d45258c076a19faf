// SPDX-License-Identifier: Apache-2.0
// Linear attention whose state decays: what the gated delta rule and Mamba2 have in common.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace roundhouse {

// For each head, with S_0 = 0, [key_dim, head_dim]:
//   S_t = exp(g_t) S_(t-1) + k_t^T u_t,   y_t = q_t S_t,
// where u_t is v_t, or with beta beta_t (v_t - k_t exp(g_t) S_(t-1)).
//
// q, k: [batch, key_heads, group, seq, key_dim], whose group may be 1; v, result: [batch, key_heads, group, seq,
// head_dim]; g, beta: [batch, key_heads, group, seq]; g <= 0. All in one type, float32 or float64.
//
// Computes chunks of positions one after the other, and once more for the gradient: beside its inputs it keeps a state a
// chunk, and works on the matrices of one.
at::Tensor gated_scan(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& g,
                      const std::optional<at::Tensor>& beta);

}  // namespace roundhouse
