#include "host/tuning/importance.h"

#include <algorithm>

#include "host/base/error.h"
#include "host/base/parallel.h"
#include "host/model/torch_tensor.h"

namespace roundhouse {
namespace {

constexpr int64_t kColumns = 64;  // of a chunk: a few cache lines of a row

// x: f32 [tokens, cols] on the CPU.
void add_squares(const at::Tensor& x, at::Tensor& sums) {
  const int64_t tokens = x.size(0), cols = x.size(1);
  const float* const data = x.const_data_ptr<float>();
  double* const sum = sums.mutable_data_ptr<double>();
  parallel_for(cols, kColumns, [&](int64_t begin, int64_t end) {
    for (int64_t token = 0; token < tokens; ++token) {
      const float* const row = data + token * cols;
      for (int64_t c = begin; c < end; ++c) sum[c] += static_cast<double>(row[c]) * static_cast<double>(row[c]);
    }
  });
}

}  // namespace

void ImportanceCollector::add(const LinearInfo& linear, const at::Tensor& input) {
  if (!layers_.contains(linear.name)) return;
  const std::string& key = linear.siblings.empty() ? linear.name : linear.siblings;
  by_layer_[linear.name] = key;
  Sum& sum = sums_[key];
  if (sum.first.empty()) {
    sum.first = linear.name;
    sum.squares = at::zeros({input.size(-1)}, at::TensorOptions(at::kDouble).device(input.device()));
  }
  if (sum.first != linear.name) return;
  const at::Tensor x = input.detach().reshape({-1, input.size(-1)}).to(at::kFloat).contiguous();
  if (x.is_cpu())
    add_squares(x, sum.squares);
  else
    sum.squares += x.to(at::kDouble).square_().sum(0);
}

ImportanceCollector ImportanceCollector::copy() const {
  ImportanceCollector copy = *this;
  for (auto& [key, sum] : copy.sums_) sum.squares = sum.squares.clone();
  return copy;
}

Importance ImportanceCollector::take() {
  Importance importance;
  for (const auto& [layer, key] : by_layer_) {
    const at::Tensor squares = sums_.at(key).squares.to(at::kFloat).cpu();
    if (!at::isfinite(squares).all().item<bool>())
      throw Error(
          cat("the inputs of ", layer, " are not finite on the calibration texts, so its channels have no ",
              "importance: the block overflows in this arithmetic; set tuning.search to false for plain rounding"));
    importance[layer] = from_torch(squares);
  }
  sums_.clear();
  by_layer_.clear();
  return importance;
}

}  // namespace roundhouse
