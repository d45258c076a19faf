// SPDX-License-Identifier: Apache-2.0
// The range of a span, which includes 0. Included after a target's lanes header; everything is local to its source.
#pragma once

#include "kernels/cpu/for_lanes.h"

namespace roundhouse::kernels {
namespace {

// min(min w, 0) and max(max w, 0) of `count` spans; NaN and NaN when an element is NaN or infinite.
template <Element weight>
class SpanRanges {
 public:
  KERNEL_LANES explicit SpanRanges(int64_t count) : count_(count) {
    for (int64_t k = count; k < kLanes; ++k) lowest_[k] = highest_[k] = finite_[k] = Lanes(0.0f);
  }
  KERNEL_LANES void measure(int64_t k, const Storage<weight>* w, int64_t size) {
    Lanes lowest(0.0f), highest(0.0f), finite(0.0f);
    for_lanes(size, [&](int64_t i, auto lanes) {
      const Lanes x = load<weight>(w + i, lanes);
      lowest = min_of(x, lowest);
      highest = max_of(x, highest);
      finite = finite + (x - x);  // NaN from the first NaN or infinity on
    });
    lowest_[k] = lowest;
    highest_[k] = highest;
    finite_[k] = finite;
  }
  KERNEL_LANES void store(float* low, float* high) {
    const Lanes check = sum_each(finite_);  // 0 or NaN
    store_groups(low, check + min_each(lowest_), count_);
    store_groups(high, check + max_each(highest_), count_);
  }

 private:
  int64_t count_;
  Lanes lowest_[kLanes], highest_[kLanes], finite_[kLanes];
};

}  // namespace

}  // namespace roundhouse::kernels
