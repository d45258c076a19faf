// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/logits_loss.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <vector>

namespace roundhouse {
namespace {

constexpr int64_t kMostStride = 8;
constexpr int64_t kLogitsAtOnce = 1 << 24;  // elements: each of the few tensors of them takes 64 MiB in float32

}  // namespace

int64_t logits_stride(double block_weights, double head_weights) {
  const double times = block_weights > 0 ? head_weights / (2 * block_weights) : 1;
  return std::clamp(static_cast<int64_t>(std::ceil(times)), int64_t{1}, kMostStride);
}

MaskedLoss divergence_of_logits(const Decoder& decoder, const at::Tensor& prediction, const at::Tensor& target,
                                const at::Tensor& mask, double scale, int64_t first, int64_t stride) {
  assert(first < stride && stride <= prediction.size(1));
  const auto chosen = [&](const at::Tensor& x) { return x.slice(1, first, x.size(1), stride).flatten(0, 1); };
  const at::Tensor from = chosen(prediction.detach()), to = chosen(target);
  const at::Tensor counted = chosen(mask).ne(0).unsqueeze(-1).to(at::kFloat);
  MaskedLoss result;
  result.gradient = at::zeros_like(prediction, at::MemoryFormat::Contiguous);
  std::vector<at::Tensor> gradients;
  const int64_t step = std::max<int64_t>(1, kLogitsAtOnce / decoder.vocab());
  for (int64_t begin = 0; begin < from.size(0); begin += step) {
    const auto rows = [&](const at::Tensor& x) { return x.slice(0, begin, begin + step); };
    const at::Tensor x = rows(from).contiguous().set_requires_grad(true);
    const at::Tensor logits = [&] {
      const at::AutoGradMode with_grad(true);
      return decoder.head(x);
    }();
    at::Tensor difference;
    {
      const at::NoGradGuard no_grad;
      const at::Tensor log_p = at::log_softmax(decoder.head(rows(to)), -1, at::kFloat);
      const at::Tensor log_q = at::log_softmax(logits, -1, at::kFloat), p = log_p.exp();
      const at::Tensor sum = ((log_p - log_q).mul_(p).sum(-1, /*keepdim=*/true) * rows(counted)).sum(at::kDouble);
      result.squared_error = result.squared_error.defined() ? result.squared_error + sum : sum;
      difference = log_q.exp_().sub_(p).mul_(rows(counted) * scale);
    }
    logits.backward(difference.to(logits.scalar_type()));
    gradients.push_back(x.grad());
  }
  result.squared_error = result.squared_error * static_cast<double>(stride);
  result.gradient.slice(1, first, prediction.size(1), stride)
      .copy_(at::cat(gradients).view({prediction.size(0), -1, prediction.size(2)}));
  return result;
}

}  // namespace roundhouse
