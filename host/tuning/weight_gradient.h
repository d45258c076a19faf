// SPDX-License-Identifier: Apache-2.0
// The gradient of one weight, summed over an iteration's units.
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "host/tuning/units.h"

namespace roundhouse {

class WeightGradient {
 public:
  // Of a unit: x [tokens, in] and dy [tokens, out], whose product dy^T x the gradient is. They are kept instead of it
  // where they are smaller: of a unit's tokens each of many experts gets few. REQUIRES: the first of the unit.
  void add_product(const at::Tensor& x, const at::Tensor& dy);
  // Ends a unit. gradient: what backward() left, undefined where it left none.
  void end_unit(at::Tensor gradient);
  // The sum, handed over: in the gradients' type when there is one unit, else in float32. Undefined when there was none.
  at::Tensor take();

 private:
  struct Product {
    at::Tensor x, dy;  // undefined: the unit has no gradient
    at::Tensor multiplied() const { return x.defined() ? dy.t().mm(x) : at::Tensor(); }
  };
  void add_kept();

  UnitTree sum_;
  std::vector<Product> kept_;  // of the units after those in sum_
  int64_t kept_elements_ = 0;  // of their factors: fewer than the gradient has
  Product unit_;
};

}  // namespace roundhouse
