// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/weight_gradient.h"

#include <cassert>
#include <utility>

namespace roundhouse {

void WeightGradient::add_product(const at::Tensor& x, const at::Tensor& dy) {
  assert(!unit_.x.defined());
  unit_ = {x, dy};
}

void WeightGradient::end_unit(at::Tensor gradient) {
  Product unit = std::exchange(unit_, {});
  assert(!unit.x.defined() || !gradient.defined());
  if (unit.x.defined() && unit.x.numel() + unit.dy.numel() >= unit.x.size(1) * unit.dy.size(1))
    gradient = std::exchange(unit, {}).multiplied();
  if (gradient.defined()) {
    add_kept();
    sum_.add(std::move(gradient));
  } else {
    const bool any = unit.x.defined();
    const int64_t gradient_elements = any ? unit.x.size(1) * unit.dy.size(1) : 0;
    if (any) kept_elements_ += unit.x.numel() + unit.dy.numel();
    kept_.push_back(std::move(unit));
    if (any && kept_elements_ >= gradient_elements) add_kept();
  }
}

at::Tensor WeightGradient::take() {
  add_kept();
  return sum_.take();
}

void WeightGradient::add_kept() {
  for (Product& product : kept_) sum_.add(std::exchange(product, {}).multiplied());
  kept_.clear();
  kept_elements_ = 0;
}

}  // namespace roundhouse
