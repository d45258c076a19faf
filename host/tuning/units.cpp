// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/units.h"

#include "host/model/slices.h"

namespace roundhouse {
namespace {

constexpr int64_t kSummed = 4 * kSlice;  // elements at a time

bool is_narrow(const at::Tensor& values) {
  return values.scalar_type() == at::kBFloat16 || values.scalar_type() == at::kHalf;
}

}  // namespace

at::Tensor sum_of(const at::Tensor& a, const at::Tensor& b) { return (is_narrow(a) ? a.to(at::kFloat) : a).add_(b); }

at::Tensor tree_sum(const std::vector<at::Tensor>& values) {
  std::vector<at::Tensor> flat;
  at::Tensor one;
  size_t defined = 0;
  for (const at::Tensor& value : values) {
    flat.push_back(value.defined() ? value.reshape(-1) : value);
    if (!value.defined()) continue;
    one = value;
    ++defined;
  }
  if (defined < 2) return one;
  const at::Tensor sum = at::empty(one.sizes(), is_narrow(one) ? one.options().dtype(at::kFloat) : one.options());
  const at::Tensor flat_sum = sum.view(-1);
  for_slices(sum.numel(), kSummed, sum.device(), [&](int64_t begin, int64_t length) {
    UnitTree tree;
    for (const at::Tensor& value : flat) tree.add(value.defined() ? value.narrow(0, begin, length) : value);
    flat_sum.narrow(0, begin, length).copy_(tree.take());
  });
  return sum;
}

}  // namespace roundhouse
