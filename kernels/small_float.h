// SPDX-License-Identifier: Apache-2.0
// Numbers of 2 to 8 bits: OCP 8-bit floating point 1.0, OCP Microscaling formats 1.0, and unsigned e5m3.
#pragma once

#include "tuning.h"

namespace roundhouse::kernels {

// Steps are even below 2^min_exponent, then relative. Integers are the case whose magnitudes all lie below 2.
struct SmallFloat {
  int32_t bits;          // of a code
  int32_t mantissa;      // bits after the point
  int32_t min_exponent;  // of the smallest normal number
  float max;
  bool integer;       // codes are two's complement, in units of 2^-mantissa
  bool is_unsigned;   // codes have no sign
  bool has_infinity;  // the first code above max is infinity
};

KERNEL_FN constexpr SmallFloat e4m3() { return {8, 3, -6, 448.0f, false, false, false}; }
KERNEL_FN constexpr SmallFloat e5m2() { return {8, 2, -14, 57344.0f, false, false, true}; }
KERNEL_FN constexpr SmallFloat e2m3() { return {6, 3, 0, 7.5f, false, false, false}; }
KERNEL_FN constexpr SmallFloat e3m2() { return {6, 2, -2, 28.0f, false, false, false}; }
KERNEL_FN constexpr SmallFloat e2m1() { return {4, 1, 0, 6.0f, false, false, false}; }
KERNEL_FN constexpr SmallFloat int8() { return {8, 6, 0, 1.984375f, true, false, false}; }
KERNEL_FN constexpr SmallFloat int4() { return {4, 2, 0, 1.75f, true, false, false}; }
KERNEL_FN constexpr SmallFloat int2() { return {2, 0, 0, 1.0f, true, false, false}; }
KERNEL_FN constexpr SmallFloat ue5m3() { return {8, 3, -14, 114688.0f, false, true, false}; }

// 2^exponent, -127 to 127.
KERNEL_FN float power_of_two(int32_t exponent) {
  return bits_float(exponent > -127 ? static_cast<uint32_t>(exponent + 127) << 23 : 0x400000u);
}
template <typename Value>
KERNEL_FN Value power_of_two(Value exponent) {
  return bits_of_number(max_of(exponent + Value(127.0f), Value(0.5f)) * Value(0x1p23f));
}

// The nearest number of the format, ties to even; |x| <= max. Value is float or a vector of them.
template <typename Value>
KERNEL_FN Value round_small(SmallFloat format, Value x) {
  const Value power = at_least(power_below(x), Value(power_of_two(format.min_exponent)));
  // A number whose last bit is worth one step of x: adding it rounds.
  const Value carrier = power * Value(power_of_two(23 - format.mantissa));
  return with_sign((magnitude(x) + carrier) - carrier, x);
}

// The code of a number of the format, itself as a number.
template <typename Value>
KERNEL_FN Value small_code_number(SmallFloat format, Value x) {
  const Value zero(0.0f);
  if (format.integer) {
    const Value steps = x * Value(power_of_two(format.mantissa));
    return steps + keep(greater(zero, steps), Value(static_cast<float>(1 << format.bits)));
  }
  const Value size = magnitude(x), smallest(power_of_two(format.min_exponent));
  const auto below = greater(smallest, size);
  // The steps below the smallest normal number are those of the binade above it.
  const Value bits = number_of_bits(size + keep(below, smallest));
  const Value steps = bits * Value(power_of_two(format.mantissa - 23)) -
                      Value(static_cast<float>((format.min_exponent + 126) << format.mantissa));
  const Value code = steps - keep(below, Value(static_cast<float>(1 << format.mantissa)));
  if (format.is_unsigned) return code;
  return code + keep(greater(zero, with_sign(smallest, x)), Value(static_cast<float>(1 << (format.bits - 1))));
}
KERNEL_FN uint8_t small_code(SmallFloat format, float x) { return static_cast<uint8_t>(small_code_number(format, x)); }

// The number that a code stands for; NaN or infinity above max.
KERNEL_FN float small_value(SmallFloat format, uint8_t code) {
  const uint32_t bits = code & ((1u << format.bits) - 1);
  const uint32_t sign = format.is_unsigned ? 0 : bits >> (format.bits - 1);
  if (format.integer) {
    const int32_t steps = static_cast<int32_t>(bits) - static_cast<int32_t>(sign << format.bits);
    return static_cast<float>(steps) * power_of_two(-format.mantissa);
  }
  const uint32_t size = format.is_unsigned ? bits : bits & ((1u << (format.bits - 1)) - 1);
  float x;
  if (size < 1u << format.mantissa)
    x = static_cast<float>(size) * power_of_two(format.min_exponent - format.mantissa);
  else
    x = bits_float((size + (static_cast<uint32_t>(format.min_exponent + 126) << format.mantissa))
                   << (23 - format.mantissa));
  if (x > format.max) {
    const bool infinity = format.has_infinity && size == small_code(format, format.max) + 1u;
    x = bits_float(infinity ? 0x7f800000u : 0x7fc00000u);
  }
  return bits_float(float_bits(x) | sign << 31);
}

}  // namespace roundhouse::kernels
