// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/loss.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "host/base/parallel.h"
#include "host/model/block_kernels.h"

namespace roundhouse {
namespace {

constexpr int64_t kLanes = 16;
constexpr int64_t kRowsPerChunk = 16;
constexpr int64_t kElementsPerChunk = 1 << 16;

// Differences above `limit` count as none.
template <bool limited, typename T>
double row_loss(const T* prediction, const T* target, T* gradient, int64_t n, float scale, float limit) {
  const auto difference_at = [&](int64_t i) {
    const float difference = static_cast<float>(prediction[i]) - static_cast<float>(target[i]);
    return limited && std::fabs(difference) > limit ? 0.0f : difference;
  };
  float sums[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j) {
      const float difference = difference_at(i + j);
      sums[j] += difference * difference;
      gradient[i + j] = static_cast<T>(difference * scale);
    }
  }
  for (; i < n; ++i) {
    const float difference = difference_at(i);
    sums[i % kLanes] += difference * difference;
    gradient[i] = static_cast<T>(difference * scale);
  }
  double sum = 0;
  for (float s : sums) sum += s;
  return sum;
}

// The largest difference that is no outlier.
template <typename T>
float largest_kept(const T* prediction, const T* target, int64_t n, int64_t outliers) {
  std::vector<float> differences(n);
  parallel_for(n, kElementsPerChunk, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      differences[i] = std::fabs(static_cast<float>(prediction[i]) - static_cast<float>(target[i]));
  });
  // The loss is to be of no use then, and nothing is left out.
  if (!std::all_of(differences.begin(), differences.end(), [](float d) { return std::isfinite(d); }))
    return std::numeric_limits<float>::infinity();
  std::nth_element(differences.begin(), differences.begin() + outliers, differences.end(), std::greater<>());
  return differences[outliers];
}

template <typename T>
double loss_on_cpu(const at::Tensor& prediction, const at::Tensor& target, const at::Tensor& mask, float scale,
                   int64_t outliers, at::Tensor& gradient) {
  const int64_t hidden = prediction.size(-1);
  const int64_t rows = prediction.numel() / hidden;
  const T* p = prediction.const_data_ptr<T>();
  const T* t = target.const_data_ptr<T>();
  const uint8_t* m = mask.const_data_ptr<uint8_t>();
  T* g = gradient.mutable_data_ptr<T>();
  const float limit = outliers > 0 ? largest_kept(p, t, prediction.numel(), outliers) : 0;
  const auto loss = outliers > 0 ? row_loss<true, T> : row_loss<false, T>;
  std::vector<double> sums(static_cast<size_t>(rows));
  parallel_for(rows, kRowsPerChunk, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t at = row * hidden;
      if (m[row]) {
        sums[row] = loss(p + at, t + at, g + at, hidden, scale, limit);
      } else {
        std::fill(g + at, g + at + hidden, T(0));
      }
    }
  });
  double total = 0;
  for (double s : sums) total += s;
  return total;
}

// limit: 0-d float32, or undefined.
MaskedLoss in_one_pass(const BlockKernelCall& call, const at::Tensor& prediction, const at::Tensor& target,
                       const at::Tensor& mask, float scale, const at::Tensor& limit) {
  MaskedLoss result;
  result.gradient = at::empty_like(prediction);
  const at::Tensor counted = mask.contiguous();
  const at::Tensor sums = at::empty(mask.sizes(), prediction.options().dtype(at::kFloat));
  call.check(call.kernels->squared_error(
      call.queue, call.type, mask.numel(), prediction.size(-1), prediction.const_data_ptr(), target.const_data_ptr(),
      counted.const_data_ptr<uint8_t>(), scale, limit.defined() ? limit.const_data_ptr<float>() : nullptr,
      result.gradient.mutable_data_ptr(), sums.mutable_data_ptr<float>()));
  result.squared_error = sums.sum(at::kDouble);
  return result;
}

}  // namespace

MaskedLoss masked_squared_error(const at::Tensor& prediction, const at::Tensor& target, const at::Tensor& mask,
                                double scale, int64_t outliers) {
  MaskedLoss result;
  if (!prediction.is_cpu()) {
    const auto call = block_kernels({prediction, target});
    at::Tensor difference, size, limit;
    if (!call || outliers > 0) difference = prediction.to(at::kFloat) - target.to(at::kFloat);
    if (outliers > 0) {
      size = difference.abs();
      limit = std::get<0>(size.view(-1).topk(outliers + 1, -1, true, /*sorted=*/false)).min();
    }
    if (call) return in_one_pass(*call, prediction, target, mask, static_cast<float>(scale), limit);
    if (outliers > 0) difference.masked_fill_(size.gt(limit).logical_and_(size.isfinite()), 0);
    difference.masked_fill_(mask.unsqueeze(-1).eq(0), 0);
    result.gradient = (difference * scale).to(prediction.scalar_type());
    result.squared_error = difference.square_().sum(-1).sum(at::kDouble);
    return result;
  }
  const at::Tensor p = prediction.contiguous(), t = target.contiguous();
  result.gradient = at::empty_like(p);
  const float factor = static_cast<float>(scale);
  result.squared_error = at::scalar_tensor(
      p.scalar_type() == at::kBFloat16 ? loss_on_cpu<at::BFloat16>(p, t, mask, factor, outliers, result.gradient)
                                       : loss_on_cpu<float>(p, t, mask, factor, outliers, result.gradient),
      at::kDouble);
  return result;
}

}  // namespace roundhouse
