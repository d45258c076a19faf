// SPDX-License-Identifier: Apache-2.0
// The element-wise parts of a block, differentiable in their activations with few passes and few saved tensors.
// Values are those of transformers, rounding by rounding, in float32 as in bfloat16, whatever the number of threads.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

#include "host/model/rows.h"
#include "host/model/structure.h"

namespace roundhouse {

// x: [..., size], weight: [size]. Normed in float32, rounded to x's type, then multiplied by weight. No gradient for
// weight.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

// x: [batch, seq, heads, head_dim]; cos, sin: [seq, 1, dims]. Rotates the first `dims` features of each head: feature i
// with feature i + dims/2, or interleaved, 2i with 2i + 1. No gradient for cos and sin.
at::Tensor rotate(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool interleaved = false);

// What a mixture's experts give together, [tokens, features] in the type of `rows`. pairs: int64 [tokens * top_k], the
// permutation of pairs of a token and a choice of its top_k, by token, that rows [pairs, features] and weights
// [pairs, 1] are in; weights undefined: all are 1. Products and sums are in the wider type of the two. gradient: where not
// empty, called with the gradient of `rows` and how it is made.
using RowsHook = std::function<void(const at::Tensor& gathered, const Rows& rows)>;
at::Tensor expert_sums(const at::Tensor& rows, const at::Tensor& weights, const at::Tensor& pairs, int64_t top_k,
                       RowsHook gradient = {});

// cap * tanh(x / cap)
at::Tensor soft_cap(const at::Tensor& x, double cap);

// REQUIRES: not kXielu, which has parameters.
at::Tensor activate(Activation activation, const at::Tensor& x);

// xIELU (arXiv 2411.13010): alpha_p x^2 + beta x above 0, alpha_n (expm1(min(x, eps)) - x) + beta x elsewhere; each of one
// element, in x's type. No gradient for them.
struct Xielu {
  at::Tensor alpha_p, alpha_n, beta, eps;
};
at::Tensor activate(const Xielu& xielu, const at::Tensor& x);

// activation(gate) * up, of equal shapes.
at::Tensor activate_and_multiply(Activation activation, const at::Tensor& gate, const at::Tensor& up);

// x [rows, features]; on a CPU, in less than float32, with rows of zeros up to one of eight numbers an octave, of which
// products have as many more. oneDNN compiles code for each number of rows and keeps it, 0.5 MB each, and experts get
// all numbers of tokens.
at::Tensor with_round_rows(const at::Tensor& x);

// x weight^T + bias, with the bits of at::linear() of with_round_rows(x). backward() hands x and the gradient of the
// result, of which weight's is dy^T x, to `take` in place of that product. x: [tokens, in], in weight's type. No gradient
// for bias.
at::Tensor hooked_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                         std::function<void(const at::Tensor& x, const at::Tensor& dy)> take);

}  // namespace roundhouse
