// SPDX-License-Identifier: Apache-2.0
// Roundhouse SDK: the numbers of 2 to 8 bits that codes stand for (OCP 8-bit floating point 1.0, OCP Microscaling
// formats 1.0), and the element types of scales. A helper, no part of the ABI. C++17, no dependency.
#pragma once

#include <cmath>
#include <limits>
#include <vector>

namespace rh {

// Floats: a sign (unless it is unsigned), exponent and mantissa. Integers, exponent_bits 0: two's complement in units
// of 2^-mantissa_bits.
struct Element {
  int bits;
  int exponent_bits, mantissa_bits, bias;
  bool is_unsigned;
  int largest;  // code of the largest finite magnitude, without its sign
  bool has_infinity;
};

constexpr Element kFp4E2M1{4, 2, 1, 1, false, 7, false};
constexpr Element kFp6E2M3{6, 2, 3, 1, false, 31, false};
constexpr Element kFp6E3M2{6, 3, 2, 3, false, 31, false};
constexpr Element kFp8E4M3{8, 4, 3, 7, false, 0x7e, false};
constexpr Element kFp8E5M2{8, 5, 2, 15, false, 0x7b, true};
constexpr Element kUe5M3{8, 5, 3, 15, true, 0xfe, false};
constexpr Element kE8M0{8, 8, 0, 127, true, 0xfe, false};
constexpr Element kInt8{8, 0, 6, 0, false, 0, false};
constexpr Element kInt4{4, 0, 2, 0, false, 0, false};
constexpr Element kInt2{2, 0, 0, 0, false, 0, false};

// The number that a code stands for. Exact in float32.
inline float element_value(const Element& e, unsigned code) {
  code &= (1u << e.bits) - 1;
  if (e.exponent_bits == 0) {
    const int sign = static_cast<int>(code >> (e.bits - 1));
    return std::ldexp(static_cast<float>(static_cast<int>(code) - (sign << e.bits)), -e.mantissa_bits);
  }
  const unsigned sign_bit = e.is_unsigned ? 0 : 1u << (e.bits - 1);
  const int magnitude = static_cast<int>(code & ~sign_bit);
  const int exponent = magnitude >> e.mantissa_bits, mantissa = magnitude & ((1 << e.mantissa_bits) - 1);
  float value;
  if (magnitude > e.largest)
    value = e.has_infinity && magnitude == e.largest + 1 ? std::numeric_limits<float>::infinity()
                                                         : std::numeric_limits<float>::quiet_NaN();
  else if (e.mantissa_bits == 0)  // only a power of two
    value = std::ldexp(1.0f, exponent - e.bias);
  else
    value = std::ldexp(static_cast<float>(exponent == 0 ? mantissa : mantissa + (1 << e.mantissa_bits)),
                       (exponent == 0 ? 1 : exponent) - e.bias - e.mantissa_bits);
  return code & sign_bit ? -value : value;
}

// The value of every code, [2^bits].
inline std::vector<float> element_values(const Element& e) {
  std::vector<float> values(size_t{1} << e.bits);
  for (size_t code = 0; code < values.size(); ++code) values[code] = element_value(e, static_cast<unsigned>(code));
  return values;
}

}  // namespace rh
