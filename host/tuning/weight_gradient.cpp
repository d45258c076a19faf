// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/weight_gradient.h"

#include <cassert>
#include <utility>

#include "host/model/ops.h"

namespace roundhouse {

at::Tensor WeightGradient::Product::multiplied() const {
  return x.defined() ? with_round_rows(dy.take()).t().mm(with_round_rows(x.take())) : at::Tensor();
}

void WeightGradient::add_product(Rows x, Rows dy) {
  assert(!unit_.x.defined());
  unit_ = {std::move(x), std::move(dy)};
}

void WeightGradient::end_unit(at::Tensor gradient) {
  Product unit = std::exchange(unit_, {});
  assert(!unit.x.defined() || !gradient.defined());
  if (unit.x.defined() && unit.bytes() >= unit.sum_bytes()) gradient = std::exchange(unit, {}).multiplied();
  if (gradient.defined()) {
    add_kept();
    sum_.add(std::move(gradient));
  } else {
    kept_.push_back(std::move(unit));
  }
}

at::Tensor WeightGradient::take() {
  if (!sum_.empty()) {
    add_kept();
    return sum_.take();
  }
  std::vector<at::Tensor> products;
  for (Product& product : kept_) products.push_back(std::exchange(product, {}).multiplied());
  kept_.clear();
  return tree_sum(products);
}

WeightGradient::Bytes WeightGradient::kept() const {
  Bytes bytes;
  for (const Product& product : kept_) {
    if (!product.x.defined()) continue;
    bytes.factors += product.bytes();
    bytes.sum = product.sum_bytes();
  }
  return bytes;
}

void WeightGradient::add_kept() {
  for (Product& product : kept_) sum_.add(std::exchange(product, {}).multiplied());
  kept_.clear();
}

}  // namespace roundhouse
