// SPDX-License-Identifier: Apache-2.0
// The element-wise parts of a block, differentiable in their activations with few passes and few saved tensors.
// Values are those of transformers, rounding by rounding, in float32 as in bfloat16, whatever the number of threads.
#pragma once

#include <ATen/core/Tensor.h>

#include "host/model/structure.h"

namespace roundhouse {

// x: [..., size], weight: [size]. Normed in float32, rounded to x's type, then multiplied by weight. No gradient for
// weight.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

// x: [batch, seq, heads, head_dim]; cos, sin: [seq, 1, dims]. Rotates the first `dims` features of each head: feature i
// with feature i + dims/2, or interleaved, 2i with 2i + 1. No gradient for cos and sin.
at::Tensor rotate(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool interleaved = false);

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

}  // namespace roundhouse
