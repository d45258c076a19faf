// SPDX-License-Identifier: Apache-2.0
// The loss of a block's output against the full-precision output, and its gradient.
#pragma once

#include <ATen/ATen.h>

namespace roundhouse {

struct MaskedLoss {
  at::Tensor squared_error;  // sum of (prediction - target)^2 over unmasked positions, all features: 0-d f64
  at::Tensor gradient;       // (prediction - target) * mask * scale, like prediction
};

// prediction, target: [batch, seq, hidden], the same floating type. mask: [batch, seq] u8; 0: not scored. All on one
// device, which the host does not wait for. On the CPU the sum has the same bits for any thread count: a fixed order
// within a position, then position by position.
MaskedLoss masked_squared_error(const at::Tensor& prediction, const at::Tensor& target, const at::Tensor& mask,
                                double scale);

}  // namespace roundhouse
