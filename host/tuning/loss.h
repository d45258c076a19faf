// The loss of a block's output against the full-precision output, and its gradient.
#pragma once

#include <ATen/ATen.h>

namespace roundhouse {

struct MaskedLoss {
  double squared_error = 0;  // sum of (prediction - target)^2 over unmasked positions, all features
  at::Tensor gradient;       // (prediction - target) * mask * scale, like prediction
};

// prediction, target: [batch, seq, hidden], the same floating type. mask: [batch, seq] u8 on the CPU; 0: not scored.
// On the CPU the sum has the same bits for any thread count: a fixed order within a position, then position by position.
MaskedLoss masked_squared_error(const at::Tensor& prediction, const at::Tensor& target, const at::Tensor& mask,
                                double scale);

}  // namespace roundhouse
