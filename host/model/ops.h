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

// x: [batch, seq, heads, head_dim]; cos, sin: [seq, 1, dims]. Rotates the first `dims` features of each head by halves:
// feature i with feature i + dims/2. No gradient for cos and sin.
at::Tensor rotate(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin);

at::Tensor activate(Activation activation, const at::Tensor& x);

// activation(gate) * up, of equal shapes.
at::Tensor activate_and_multiply(Activation activation, const at::Tensor& gate, const at::Tensor& up);

}  // namespace roundhouse
