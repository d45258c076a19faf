/* SPDX-License-Identifier: Apache-2.0 */
/* Roundhouse SDK: elements of f32, f16 and bf16 tensors as float. A helper, no part of the ABI: every function is
 * inline, for C, C++ and CUDA. Rounding is to nearest, ties to even (IEEE 754; bfloat16 is the upper half of a
 * binary32). */
#ifndef ROUNDHOUSE_FLOATS_H
#define ROUNDHOUSE_FLOATS_H

#include <string.h>

#include "../tensor.h"

#if defined(__CUDACC__)
#define RH_INLINE static __host__ __device__ __forceinline__
#else
#define RH_INLINE static inline __attribute__((always_inline))
#endif

/* [thread-safe] since 1.0 */
RH_INLINE uint32_t rh_float_bits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}
/* [thread-safe] since 1.0 */
RH_INLINE float rh_bits_float(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

/* [thread-safe] since 1.0 */
RH_INLINE float rh_float_from_bfloat(uint16_t x) { return rh_bits_float((uint32_t)x << 16); }

/* [thread-safe] since 1.0 */
RH_INLINE uint16_t rh_bfloat_from_float(float x) {
  const uint32_t bits = rh_float_bits(x);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return (uint16_t)(x == x ? rounded : ((bits >> 16) | 0x40u)); /* a NaN stays one */
}

/* [thread-safe] since 1.0 */
RH_INLINE float rh_float_from_half(uint16_t x) {
  const uint32_t sign = (uint32_t)(x & 0x8000) << 16;
  const uint32_t exponent = (x >> 10) & 0x1f;
  const uint32_t mantissa = x & 0x3ff;
  if (exponent == 0x1f) return rh_bits_float(sign | 0x7f800000u | (mantissa ? 0x400000u : 0u) | (mantissa << 13));
  if (exponent == 0) return rh_bits_float(rh_float_bits((float)mantissa * 5.9604644775390625e-8f) | sign); /* 2^-24 */
  return rh_bits_float(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

/* [thread-safe] since 1.0 */
RH_INLINE uint16_t rh_half_from_float(float x) {
  const uint32_t bits = rh_float_bits(x);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | ((bits >> 13) & 0x3ffu));
  if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* rounds to infinity */
  if (magnitude < 0x38800000u) /* subnormal: adding 0.5 leaves units of 2^-24 in the low bits */
    return (uint16_t)(sign | (rh_float_bits(rh_bits_float(magnitude) + 0.5f) - 0x3f000000u));
  return (uint16_t)(sign | ((magnitude + 0xfffu + ((magnitude >> 13) & 1u) - 0x38000000u) >> 13));
}

/* 1 for f32, f16 and bf16. [thread-safe] since 1.0 */
RH_INLINE int rh_is_float(rh_data_type type) {
  return type.lanes == 1 && ((type.kind == RH_KIND_FLOAT && (type.bits == 32 || type.bits == 16)) ||
                             (type.kind == RH_KIND_BFLOAT && type.bits == 16));
}

/* Element `i` of an f32, f16 or bf16 tensor on the CPU. [thread-safe] since 1.0 */
RH_INLINE float rh_load(const rh_tensor *tensor, int64_t i) {
  if (tensor->dtype.bits == 32) return ((const float *)tensor->data)[i];
  return tensor->dtype.kind == RH_KIND_BFLOAT ? rh_float_from_bfloat(((const uint16_t *)tensor->data)[i])
                                              : rh_float_from_half(((const uint16_t *)tensor->data)[i]);
}

/* Rounds to the tensor's element type, f32, f16 or bf16, and writes element `i`. [thread-safe] since 1.0 */
RH_INLINE void rh_store(const rh_tensor *tensor, int64_t i, float value) {
  if (tensor->dtype.bits == 32)
    ((float *)tensor->data)[i] = value;
  else
    ((uint16_t *)tensor->data)[i] =
        tensor->dtype.kind == RH_KIND_BFLOAT ? rh_bfloat_from_float(value) : rh_half_from_float(value);
}

/* `value` rounded to f32, f16 or bf16. [thread-safe] since 1.0 */
RH_INLINE float rh_rounded(rh_data_type type, float value) {
  if (type.bits == 32) return value;
  return type.kind == RH_KIND_BFLOAT ? rh_float_from_bfloat(rh_bfloat_from_float(value))
                                     : rh_float_from_half(rh_half_from_float(value));
}

#endif /* ROUNDHOUSE_FLOATS_H */
