// SPDX-License-Identifier: Apache-2.0
// Reductions over what the spans of a group left, in an order that nothing changes.
#pragma once

#include "kernels/floats.h"

namespace roundhouse::kernels {

// combine() of 0 and at(0) ... at(n - 1), in kLanes lanes and a tree.
template <typename At, typename Combine>
float fold_of(int64_t n, At&& at, Combine&& combine) {
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int k = 0; k < kLanes; ++k) lanes[k] = combine(lanes[k], at(i + k));
  for (int k = 0; i + k < n; ++k) lanes[k] = combine(lanes[k], at(i + k));
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int k = 0; k < half; ++k) lanes[k] = combine(lanes[k], lanes[k + half]);
  return lanes[0];
}
template <typename At>
float sum_of(int64_t n, At&& at) {
  return fold_of(n, at, [](float a, float b) { return a + b; });
}

// The largest of at(0) ... at(n - 1) and 0; NaN when one is NaN or infinite.
template <typename At>
float largest_at(int64_t n, At&& at) {
  return fold_of(n, at, [](float a, float b) { return max_of(b, a); }) +
         sum_of(n, [&](int64_t i) { return at(i) - at(i); });
}

}  // namespace roundhouse::kernels
