// SPDX-License-Identifier: Apache-2.0
// The loss of a block's output against the full-precision output, and its gradient.
#pragma once

#include <ATen/ATen.h>

namespace roundhouse {

// SignRoundV2 leaves out a thousandth of the elements: auto-round 0.16, algorithms/quantization/sign_roundv2.
inline constexpr int64_t kElementsPerOutlier = 1000;

struct MaskedLoss {
  at::Tensor
      squared_error;  // or another loss's sum; sum of (prediction - target)^2 over unmasked positions, all features: 0-d f64
  at::Tensor gradient;  // (prediction - target) * mask * scale, like prediction
};

// prediction, target: [batch, seq, hidden], the same floating type. mask: [batch, seq] u8; 0: not scored. All on one
// device, which the host does not wait for. On the CPU the sum has the same bits for any thread count: a fixed order
// within a position, then position by position.
// outliers: so many of the largest differences, those at masked positions among them, count as none in both results;
// fewer where the next ones are as large.
MaskedLoss masked_squared_error(const at::Tensor& prediction, const at::Tensor& target, const at::Tensor& mask,
                                double scale, int64_t outliers = 0);

}  // namespace roundhouse
