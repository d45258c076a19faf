// SPDX-License-Identifier: Apache-2.0
// kLanes floats in one AVX-512 register (F, BW, DQ, VL).
#pragma once

#include <immintrin.h>

#include "kernels/floats.h"

namespace roundhouse::kernels {
namespace {

// A span's tail, and each element type of a result or a gradient, gets a loop body of its own.
constexpr bool kBodiesApart = true;

struct Lanes {
  __m512 x;

  Lanes() = default;
  KERNEL_LANES Lanes(__m512 a) : x(a) {}
  KERNEL_LANES explicit Lanes(float value) : x(_mm512_set1_ps(value)) {}
};
using LaneMask = __mmask16;

// Where each lane comes from: 0 .. 15 the first operand's, 16 .. 31 the second's.
struct PairIndex {
  int32_t lane[kLanes];
};
constexpr PairIndex pair_index(int half, int offset) {
  PairIndex index{};
  for (int i = 0; i < kLanes; ++i) index.lane[i] = i & half ? kLanes + i - half + offset : i + offset;
  return index;
}

}  // namespace

KERNEL_FN Lanes operator+(Lanes a, Lanes b) { return _mm512_add_ps(a.x, b.x); }
KERNEL_FN Lanes operator-(Lanes a, Lanes b) { return _mm512_sub_ps(a.x, b.x); }
KERNEL_FN Lanes operator*(Lanes a, Lanes b) { return _mm512_mul_ps(a.x, b.x); }
KERNEL_FN Lanes operator/(Lanes a, Lanes b) { return _mm512_div_ps(a.x, b.x); }
KERNEL_FN Lanes operator-(Lanes a) { return Lanes(-0.0f) - a; }
KERNEL_FN Lanes min_of(Lanes a, Lanes b) { return _mm512_min_ps(a.x, b.x); }
KERNEL_FN Lanes max_of(Lanes a, Lanes b) { return _mm512_max_ps(a.x, b.x); }
KERNEL_FN LaneMask equal(Lanes a, Lanes b) { return _mm512_cmp_ps_mask(a.x, b.x, _CMP_EQ_OQ); }
KERNEL_FN LaneMask greater(Lanes a, Lanes b) { return _mm512_cmp_ps_mask(a.x, b.x, _CMP_GT_OQ); }
KERNEL_FN bool any(LaneMask mask) { return mask != 0; }
KERNEL_FN Lanes keep(LaneMask mask, Lanes a) { return _mm512_maskz_mov_ps(mask, a.x); }
KERNEL_FN Lanes drop(LaneMask mask, Lanes a) { return _mm512_maskz_mov_ps(static_cast<LaneMask>(~mask), a.x); }
KERNEL_FN Lanes select(LaneMask mask, Lanes a, Lanes b) { return _mm512_mask_blend_ps(mask, b.x, a.x); }
KERNEL_FN Lanes round_even(Lanes a) { return _mm512_roundscale_ps(a.x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
KERNEL_FN Lanes masked(Lanes a, uint32_t bits) {
  return _mm512_and_ps(a.x, _mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int>(bits))));
}
KERNEL_FN Lanes magnitude(Lanes a) { return masked(a, 0x7fffffffu); }
KERNEL_FN Lanes power_below(Lanes a) { return masked(a, 0x7f800000u); }
KERNEL_FN Lanes with_sign(Lanes size, Lanes sign) { return _mm512_or_ps(size.x, masked(sign, 0x80000000u).x); }
KERNEL_FN Lanes number_of_bits(Lanes a) { return _mm512_cvtepi32_ps(_mm512_castps_si512(a.x)); }
KERNEL_FN Lanes bits_of_number(Lanes a) { return _mm512_castsi512_ps(_mm512_cvttps_epi32(a.x)); }

// Lanes i of a and b beside each other where i & half is 0: b's stand half further up. And those where it is not 0: a's
// stand half further down.
template <int half>
KERNEL_FN Lanes pair_low(Lanes a, Lanes b) {
  alignas(64) constexpr PairIndex from = pair_index(half, 0);
  return _mm512_permutex2var_ps(a.x, _mm512_load_si512(from.lane), b.x);
}
template <int half>
KERNEL_FN Lanes pair_high(Lanes a, Lanes b) {
  alignas(64) constexpr PairIndex from = pair_index(half, half);
  return _mm512_permutex2var_ps(a.x, _mm512_load_si512(from.lane), b.x);
}
KERNEL_FN float first_lane(Lanes a) { return _mm512_cvtss_f32(a.x); }

// The bits of bfloat_from_float, one in each 32-bit element.
KERNEL_FN __m512i bfloat_bits(__m512 a) {
  const __m512i bits = _mm512_castps_si512(a);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __mmask16 nan = _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
  return _mm512_srli_epi32(_mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000)), 16);
}

template <Element e>
KERNEL_FN Lanes load_lanes(const Storage<e>* from) {
  if constexpr (e == Element::kF32)
    return _mm512_loadu_ps(from);
  else {
    const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    if constexpr (e == Element::kF16)
      return _mm512_cvtph_ps(halves);
    else
      return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
  }
}

template <Element e>
KERNEL_FN void store_lanes(Storage<e>* to, Lanes a) {
  if constexpr (e == Element::kF32)
    _mm512_storeu_ps(to, a.x);
  else if constexpr (e == Element::kF16)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtps_ph(a.x, _MM_FROUND_TO_NEAREST_INT));
  else
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(bfloat_bits(a.x)));
}

template <Element e>
KERNEL_FN Lanes round_to(Lanes a) {
  if constexpr (e == Element::kF16)
    return _mm512_cvtph_ps(_mm512_cvtps_ph(a.x, _MM_FROUND_TO_NEAREST_INT));
  else if constexpr (e == Element::kBF16)
    return _mm512_castsi512_ps(_mm512_slli_epi32(bfloat_bits(a.x), 16));
  else
    return a;
}

KERNEL_FN Lanes load_codes(const uint8_t* from) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
}

KERNEL_FN void store_codes(uint8_t* to, Lanes a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8(_mm512_cvttps_epi32(a.x)));
}

}  // namespace roundhouse::kernels
