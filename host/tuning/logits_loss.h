// SPDX-License-Identifier: Apache-2.0
// What the last block can be tuned against in place of its output: the logits that the model makes of it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "host/model/decoder.h"
#include "host/tuning/loss.h"

namespace roundhouse {

// Every how many positions a token's logits are compared, for the head to cost twice a block at most, and an eighth of
// the positions at least. weights: of the block's linears and of the head, as far as a token meets them.
int64_t logits_stride(double block_weights, double head_weights);

// The Kullback-Leibler divergence, in nats, of the logits of `prediction` from those of `target`, as masked_squared_error()
// has its sums: over the unmasked ones of the positions first, first + stride, ..., times stride. The gradient is that
// of the sum, times scale. Both are [batch, seq, hidden], outputs of the last block.
// REQUIRES: first < stride <= seq.
MaskedLoss divergence_of_logits(const Decoder& decoder, const at::Tensor& prediction, const at::Tensor& target,
                                const at::Tensor& mask, double scale, int64_t first, int64_t stride);

}  // namespace roundhouse
