// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/loss.h"

#include <vector>

#include "host/base/parallel.h"

namespace roundhouse {
namespace {

constexpr int64_t kLanes = 16;
constexpr int64_t kRowsPerChunk = 16;

template <typename T>
double row_loss(const T* prediction, const T* target, T* gradient, int64_t n, float scale) {
  float sums[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j) {
      const float difference = static_cast<float>(prediction[i + j]) - static_cast<float>(target[i + j]);
      sums[j] += difference * difference;
      gradient[i + j] = static_cast<T>(difference * scale);
    }
  }
  for (; i < n; ++i) {
    const float difference = static_cast<float>(prediction[i]) - static_cast<float>(target[i]);
    sums[i % kLanes] += difference * difference;
    gradient[i] = static_cast<T>(difference * scale);
  }
  double sum = 0;
  for (float s : sums) sum += s;
  return sum;
}

template <typename T>
double loss_on_cpu(const at::Tensor& prediction, const at::Tensor& target, const at::Tensor& mask, float scale,
                   at::Tensor& gradient) {
  const int64_t hidden = prediction.size(-1);
  const int64_t rows = prediction.numel() / hidden;
  const T* p = prediction.const_data_ptr<T>();
  const T* t = target.const_data_ptr<T>();
  const uint8_t* m = mask.const_data_ptr<uint8_t>();
  T* g = gradient.mutable_data_ptr<T>();
  std::vector<double> sums(static_cast<size_t>(rows));
  parallel_for(rows, kRowsPerChunk, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t at = row * hidden;
      if (m[row]) {
        sums[row] = row_loss(p + at, t + at, g + at, hidden, scale);
      } else {
        std::fill(g + at, g + at + hidden, T(0));
      }
    }
  });
  double total = 0;
  for (double s : sums) total += s;
  return total;
}

}  // namespace

MaskedLoss masked_squared_error(const at::Tensor& prediction, const at::Tensor& target, const at::Tensor& mask,
                                double scale) {
  MaskedLoss result;
  if (!prediction.is_cpu()) {
    const at::Tensor difference =
        (prediction.to(at::kFloat) - target.to(at::kFloat)).masked_fill_(mask.unsqueeze(-1).eq(0), 0);
    result.gradient = (difference * scale).to(prediction.scalar_type());
    result.squared_error = difference.square_().sum(-1).sum(at::kDouble);
    return result;
  }
  const at::Tensor p = prediction.contiguous(), t = target.contiguous();
  result.gradient = at::empty_like(p);
  const float factor = static_cast<float>(scale);
  result.squared_error = at::scalar_tensor(p.scalar_type() == at::kBFloat16
                                               ? loss_on_cpu<at::BFloat16>(p, t, mask, factor, result.gradient)
                                               : loss_on_cpu<float>(p, t, mask, factor, result.gradient),
                                           at::kDouble);
  return result;
}

}  // namespace roundhouse
