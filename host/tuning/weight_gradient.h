// SPDX-License-Identifier: Apache-2.0
// The gradient of one weight, summed over an iteration's units.
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "host/model/rows.h"
#include "host/tuning/units.h"

namespace roundhouse {

class WeightGradient {
 public:
  // Of a unit: x [tokens, in] and dy [tokens, out], whose product dy^T x the gradient is. They are kept instead of it
  // where they are smaller than a sum in float32: of a unit's tokens each of many experts gets few. REQUIRES: the first
  // of the unit.
  void add_product(Rows x, Rows dy);
  // Ends a unit. gradient: what backward() left, undefined where it left none.
  void end_unit(at::Tensor gradient);
  // The sum, handed over: in the gradients' type when there is one unit, else in float32. Undefined when there was none.
  at::Tensor take();

  struct Bytes {
    size_t factors = 0;  // that are kept
    size_t sum = 0;      // what their sum would take; 0 when there are none
  };
  Bytes kept() const;
  // Multiplies and sums them now.
  void add_kept();

 private:
  struct Product {
    Rows x, dy;  // undefined: the unit has no gradient
    size_t bytes() const { return x.bytes() + dy.bytes(); }
    size_t sum_bytes() const { return static_cast<size_t>(x.base.size(1) * dy.base.size(1)) * sizeof(float); }
    at::Tensor multiplied() const;
  };

  UnitTree sum_;
  std::vector<Product> kept_;  // of the units after those in sum_
  Product unit_;
};

}  // namespace roundhouse
