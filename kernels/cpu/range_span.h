// The range of a span, which includes 0. Included after a target's lanes header; everything is local to its source.
#pragma once

#include "kernels/cpu/for_lanes.h"

namespace roundhouse::kernels {

// min(min w, 0) and max(max w, 0); NaN and NaN when an element is NaN or infinite.
template <Element weight>
RH_HD void range_span(const Storage<weight>* w, int64_t size, float& low, float& high) {
  Lanes lowest(0.0f), highest(0.0f), finite(0.0f);
  for_lanes(size, [&](int64_t i, auto lanes) {
    const Lanes x = load<weight>(w + i, lanes);
    lowest = min_of(x, lowest);
    highest = max_of(x, highest);
    finite = finite + (x - x);  // NaN from the first NaN or infinity on
  });
  const float check = sum_lanes(finite);  // 0 or NaN
  low = check + fold_lanes(lowest, [](float x, float y) { return min_of(x, y); });
  high = check + fold_lanes(highest, [](float x, float y) { return max_of(x, y); });
}

}  // namespace roundhouse::kernels
