// The first step of progressive quantization: a weight, over one scale for the whole tensor, to float8 E4M3 (OCP 8-bit
// floating point, 1.0). As auto-round 0.16 has it (data_type/w4fp8.py).
#pragma once

#include "floats.h"

namespace roundhouse::kernels {

struct AffineProgressive {
  const void* weight;
  const float *low, *high;  // [1], range of the whole weight
  float max_scale;          // a factor of the range; what then lies beyond is clipped
  void* rounded;            // out: shape and element type of the weight; values of E4M3
  float* outer_scale;       // out: [1]
};

inline constexpr float kE4m3Max = 448.0f;

// To the nearest number of E4M3, ties to even, for |x| up to the largest.
RH_HD float round_to_e4m3(float x) {
  const uint32_t sign = float_bits(x) & 0x80000000u;
  const uint32_t magnitude = float_bits(x) & 0x7fffffffu;
  const uint32_t normal = (magnitude + 0x7ffffu + ((magnitude >> 20) & 1u)) & ~0xfffffu;  // 3 bits of mantissa stay
  const float subnormal = (bits_float(magnitude) + 0x1p14f) - 0x1p14f;                    // multiples of 2^-9
  if (magnitude > 0x7f800000u) return x;
  return bits_float((magnitude < 0x3c800000u ? float_bits(subnormal) : normal) | sign);  // below 2^-6
}

RH_HD float progressive_scale(const AffineProgressive& args) {
  const float largest = max_of(-*args.low, *args.high) * args.max_scale;
  return max_of(largest / kE4m3Max, static_cast<float>(1.0 / (448.0 * 512.0)));
}

template <Element weight>
RH_HD void progressive_round(const AffineProgressive& args, float scale, int64_t i) {
  const float x = round_to<weight>(to_float<weight>(static_cast<const Storage<weight>*>(args.weight)[i]) / scale);
  const float clipped = x > kE4m3Max ? kE4m3Max : x < -kE4m3Max ? -kE4m3Max : x;
  static_cast<Storage<weight>*>(args.rounded)[i] = from_float<weight>(round_to_e4m3(clipped));
}

}  // namespace roundhouse::kernels
