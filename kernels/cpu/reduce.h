// Reductions over what the spans of a group left, in an order that nothing changes.
#pragma once

#include "kernels/floats.h"

namespace roundhouse::kernels {

// at(0) + ... + at(n - 1), in kLanes lanes and a tree.
template <typename At>
float sum_of(int64_t n, At&& at) {
  float lanes[kLanes] = {};
  for (int64_t i = 0; i < n; ++i) lanes[i % kLanes] += at(i);
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}

}  // namespace roundhouse::kernels
