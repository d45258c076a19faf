// SPDX-License-Identifier: Apache-2.0
// Element types of weights and scales, and the float arithmetic that CPU and CUDA kernels share.
//
// Everything here is compiled several times for several instruction sets, so it is static and forced inline: a shared
// copy could hold instructions that the running processor lacks.
#pragma once

#include <stdint.h>
#include <string.h>

#if defined(__CUDACC__)
#define KERNEL_FN static __host__ __device__ __forceinline__
#else
#define KERNEL_FN static inline __attribute__((always_inline))
#endif
#define KERNEL_LANES inline __attribute__((always_inline))  // host only, and members

namespace roundhouse::kernels {

// Sums over a span or over spans run in this many lanes, element i in lane i % kLanes, which a fixed tree then adds:
// the order is the same for every instruction set.
inline constexpr int kLanes = 16;

enum class Element : int32_t { kF32, kF16, kBF16 };

template <Element e>
struct ElementStorage {
  using Type = uint16_t;
};
template <>
struct ElementStorage<Element::kF32> {
  using Type = float;
};
template <Element e>
using Storage = typename ElementStorage<e>::Type;

KERNEL_FN uint32_t float_bits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}
KERNEL_FN float bits_float(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

// Minimum and maximum as x86 has them: the second operand when the comparison is false (NaN, equal zeros).
KERNEL_FN float min_of(float a, float b) { return a < b ? a : b; }
KERNEL_FN float max_of(float a, float b) { return a > b ? a : b; }
KERNEL_FN bool equal(float a, float b) { return a == b; }
KERNEL_FN bool greater(float a, float b) { return a > b; }
// x where the mask is true (keep) or false (drop), else +0.
KERNEL_FN float keep(bool mask, float x) { return mask ? x : 0.0f; }
KERNEL_FN float drop(bool mask, float x) { return mask ? 0.0f : x; }
KERNEL_FN float select(bool mask, float a, float b) { return mask ? a : b; }

// Below, what stands under __CUDA_ARCH__ are a GPU's own instructions, of 8.0 and later. They give the same bits as the
// other branch, but that every NaN that they make is the same one.

// To the nearest integer, ties to even; a zero keeps the sign of x.
KERNEL_FN float round_even(float x) {
#if defined(__CUDA_ARCH__)
  return rintf(x);
#else
  const uint32_t sign = float_bits(x) & 0x80000000u;
  const float magnitude = bits_float(float_bits(x) & 0x7fffffffu);
  const float rounded = (magnitude + 0x1p23f) - 0x1p23f;  // floats from 2^23 on are integers
  return bits_float(float_bits(magnitude < 0x1p23f ? rounded : magnitude) | sign);
#endif
}

KERNEL_FN float magnitude(float x) {
#if defined(__CUDA_ARCH__)
  return fabsf(x);
#else
  return bits_float(float_bits(x) & 0x7fffffffu);
#endif
}
// The largest power of two that is not above |x|; 0 when |x| is below the normal numbers.
KERNEL_FN float power_below(float x) { return bits_float(float_bits(x) & 0x7f800000u); }
// `size`, which is not negative, with the sign of `sign`.
KERNEL_FN float with_sign(float size, float sign) {
#if defined(__CUDA_ARCH__)
  float out;
  asm("copysign.f32 %0, %1, %2;" : "=f"(out) : "f"(sign), "f"(size));
  return out;
#else
  return bits_float(float_bits(size) | (float_bits(sign) & 0x80000000u));
#endif
}

// The bits of x, which is not negative, as a number: 2^23 times (exponent field + mantissa); and back.
KERNEL_FN float number_of_bits(float x) { return static_cast<float>(static_cast<int32_t>(float_bits(x))); }
KERNEL_FN float bits_of_number(float x) { return bits_float(static_cast<uint32_t>(static_cast<int32_t>(x))); }

// 16-bit formats, rounded to nearest, ties to even (IEEE 754; bfloat16 is the upper half of a binary32).
KERNEL_FN float float_from_bfloat(uint16_t x) { return bits_float(static_cast<uint32_t>(x) << 16); }

KERNEL_FN uint16_t bfloat_from_float(float x) {
#if defined(__CUDA_ARCH__)
  uint16_t out;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(out) : "f"(x));
  return out;
#else
  const uint32_t bits = float_bits(x);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return static_cast<uint16_t>(x == x ? rounded : ((bits >> 16) | 0x40u));  // a NaN stays one
#endif
}

KERNEL_FN float float_from_half(uint16_t x) {
#if defined(__CUDA_ARCH__)
  float out;
  asm("cvt.f32.f16 %0, %1;" : "=f"(out) : "h"(x));
  return out;
#else
  const uint32_t sign = static_cast<uint32_t>(x & 0x8000) << 16;
  const uint32_t exponent = (x >> 10) & 0x1f;
  const uint32_t mantissa = x & 0x3ff;
  if (exponent == 0x1f) return bits_float(sign | 0x7f800000u | (mantissa ? 0x400000u : 0u) | (mantissa << 13));
  if (exponent == 0) return bits_float(float_bits(static_cast<float>(mantissa) * 0x1p-24f) | sign);  // exact
  return bits_float(sign | ((exponent + 112) << 23) | (mantissa << 13));
#endif
}

KERNEL_FN uint16_t half_from_float(float x) {
#if defined(__CUDA_ARCH__)
  uint16_t out;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out) : "f"(x));
  return out;
#else
  const uint32_t bits = float_bits(x);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u | ((bits >> 13) & 0x3ffu));
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // rounds to infinity
  if (magnitude < 0x38800000u) {  // subnormal: adding 0.5 leaves units of 2^-24 in the low bits
    return static_cast<uint16_t>(sign | (float_bits(bits_float(magnitude) + 0.5f) - 0x3f000000u));
  }
  return static_cast<uint16_t>(sign | ((magnitude + 0xfffu + ((magnitude >> 13) & 1u) - 0x38000000u) >> 13));
#endif
}

template <Element e>
KERNEL_FN float to_float(Storage<e> x) {
  if constexpr (e == Element::kF32)
    return x;
  else if constexpr (e == Element::kF16)
    return float_from_half(x);
  else
    return float_from_bfloat(x);
}
template <Element e>
KERNEL_FN Storage<e> from_float(float x) {
  if constexpr (e == Element::kF32)
    return x;
  else if constexpr (e == Element::kF16)
    return half_from_float(x);
  else
    return bfloat_from_float(x);
}
template <Element e>
KERNEL_FN float round_to(float x) {
  return to_float<e>(from_float<e>(x));
}

KERNEL_FN float load_element(Element e, const void* base, int64_t i) {
  if (e == Element::kF16) return float_from_half(static_cast<const uint16_t*>(base)[i]);
  if (e == Element::kBF16) return float_from_bfloat(static_cast<const uint16_t*>(base)[i]);
  return static_cast<const float*>(base)[i];
}
KERNEL_FN void store_element(Element e, void* base, int64_t i, float x) {
  if (e == Element::kF16)
    static_cast<uint16_t*>(base)[i] = half_from_float(x);
  else if (e == Element::kBF16)
    static_cast<uint16_t*>(base)[i] = bfloat_from_float(x);
  else
    static_cast<float*>(base)[i] = x;
}

template <Element e>
struct ElementTag {
  static constexpr Element value = e;
};

// Calls body(tag) with the tag of the run-time element type. On the host only.
template <typename Body>
static KERNEL_LANES void with_element(Element e, Body&& body) {
  if (e == Element::kF16)
    body(ElementTag<Element::kF16>{});
  else if (e == Element::kBF16)
    body(ElementTag<Element::kBF16>{});
  else
    body(ElementTag<Element::kF32>{});
}

}  // namespace roundhouse::kernels
