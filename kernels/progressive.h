// SPDX-License-Identifier: Apache-2.0
// The first step of progressive quantization: a weight, over one scale for the whole tensor, to float8 E4M3 (OCP 8-bit
// floating point, 1.0). As auto-round 0.16 has it (data_type/w4fp8.py).
#pragma once

#include "small_float.h"

namespace roundhouse::kernels {

struct AffineProgressive {
  const void* weight;
  const float *low, *high;  // [1], range of the whole weight
  float max_scale;          // a factor of the range; what then lies beyond is clipped
  void* rounded;            // out: shape and element type of the weight; values of E4M3
  float* outer_scale;       // out: [1]
};

KERNEL_FN float progressive_scale(const AffineProgressive& args) {
  const float largest = max_of(-*args.low, *args.high) * args.max_scale;
  return max_of(largest / e4m3().max, static_cast<float>(1.0 / (448.0 * 512.0)));
}

template <Element weight>
KERNEL_FN void progressive_round(const AffineProgressive& args, float scale, int64_t i) {
  const float x = round_to<weight>(to_float<weight>(static_cast<const Storage<weight>*>(args.weight)[i]) / scale);
  const float max = e4m3().max;
  const float clipped = x > max ? max : x < -max ? -max : x;
  static_cast<Storage<weight>*>(args.rounded)[i] = from_float<weight>(round_small(e4m3(), clipped));
}

}  // namespace roundhouse::kernels
