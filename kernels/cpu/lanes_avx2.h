// SPDX-License-Identifier: Apache-2.0
// kLanes floats in two AVX2 registers.
#pragma once

#include <immintrin.h>

#include "kernels/floats.h"

namespace roundhouse::kernels {
namespace {

// A span's tail, and each element type of a result or a gradient, gets a loop body of its own.
constexpr bool kBodiesApart = true;

struct Lanes {
  __m256 lo, hi;  // lanes 0 .. 7 and 8 .. 15

  Lanes() = default;
  KERNEL_LANES Lanes(__m256 a, __m256 b) : lo(a), hi(b) {}
  KERNEL_LANES explicit Lanes(float value) : lo(_mm256_set1_ps(value)), hi(lo) {}
};
struct LaneMask {
  __m256 lo, hi;
};

}  // namespace

KERNEL_FN Lanes operator+(Lanes a, Lanes b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
KERNEL_FN Lanes operator-(Lanes a, Lanes b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
KERNEL_FN Lanes operator*(Lanes a, Lanes b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
KERNEL_FN Lanes operator/(Lanes a, Lanes b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
KERNEL_FN Lanes operator-(Lanes a) { return Lanes(-0.0f) - a; }
KERNEL_FN Lanes min_of(Lanes a, Lanes b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
KERNEL_FN Lanes max_of(Lanes a, Lanes b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
KERNEL_FN LaneMask equal(Lanes a, Lanes b) {
  return {_mm256_cmp_ps(a.lo, b.lo, _CMP_EQ_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_EQ_OQ)};
}
KERNEL_FN LaneMask greater(Lanes a, Lanes b) {
  return {_mm256_cmp_ps(a.lo, b.lo, _CMP_GT_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_GT_OQ)};
}
KERNEL_FN bool any(LaneMask mask) { return _mm256_movemask_ps(_mm256_or_ps(mask.lo, mask.hi)) != 0; }
KERNEL_FN Lanes keep(LaneMask mask, Lanes a) { return {_mm256_and_ps(mask.lo, a.lo), _mm256_and_ps(mask.hi, a.hi)}; }
KERNEL_FN Lanes drop(LaneMask mask, Lanes a) {
  return {_mm256_andnot_ps(mask.lo, a.lo), _mm256_andnot_ps(mask.hi, a.hi)};
}
KERNEL_FN Lanes select(LaneMask mask, Lanes a, Lanes b) {
  return {_mm256_blendv_ps(b.lo, a.lo, mask.lo), _mm256_blendv_ps(b.hi, a.hi, mask.hi)};
}
KERNEL_FN Lanes round_even(Lanes a) {
  constexpr int kNearestEven = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(a.lo, kNearestEven), _mm256_round_ps(a.hi, kNearestEven)};
}
KERNEL_FN Lanes masked(Lanes a, uint32_t bits) {
  const __m256 mask = _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(bits)));
  return {_mm256_and_ps(a.lo, mask), _mm256_and_ps(a.hi, mask)};
}
KERNEL_FN Lanes magnitude(Lanes a) { return masked(a, 0x7fffffffu); }
KERNEL_FN Lanes power_below(Lanes a) { return masked(a, 0x7f800000u); }
KERNEL_FN Lanes with_sign(Lanes size, Lanes sign) {
  const Lanes signs = masked(sign, 0x80000000u);
  return {_mm256_or_ps(size.lo, signs.lo), _mm256_or_ps(size.hi, signs.hi)};
}
KERNEL_FN Lanes number_of_bits(Lanes a) {
  return {_mm256_cvtepi32_ps(_mm256_castps_si256(a.lo)), _mm256_cvtepi32_ps(_mm256_castps_si256(a.hi))};
}
KERNEL_FN Lanes bits_of_number(Lanes a) {
  return {_mm256_castsi256_ps(_mm256_cvttps_epi32(a.lo)), _mm256_castsi256_ps(_mm256_cvttps_epi32(a.hi))};
}

// Lanes i of a and b beside each other where i & half is 0: b's stand half further up. And those where it is not 0: a's
// stand half further down.
template <int half>
KERNEL_FN __m256 pair_low(__m256 a, __m256 b) {
  if constexpr (half == 4) return _mm256_permute2f128_ps(a, b, 0x20);
  if constexpr (half == 2) return _mm256_shuffle_ps(a, b, 0x44);
  if constexpr (half == 1) return _mm256_blend_ps(a, _mm256_moveldup_ps(b), 0xaa);
}
template <int half>
KERNEL_FN __m256 pair_high(__m256 a, __m256 b) {
  if constexpr (half == 4) return _mm256_permute2f128_ps(a, b, 0x31);
  if constexpr (half == 2) return _mm256_shuffle_ps(a, b, 0xee);
  if constexpr (half == 1) return _mm256_blend_ps(_mm256_movehdup_ps(a), b, 0xaa);
}
template <int half>
KERNEL_FN Lanes pair_low(Lanes a, Lanes b) {
  if constexpr (half == 8)
    return {a.lo, b.lo};
  else
    return {pair_low<half>(a.lo, b.lo), pair_low<half>(a.hi, b.hi)};
}
template <int half>
KERNEL_FN Lanes pair_high(Lanes a, Lanes b) {
  if constexpr (half == 8)
    return {a.hi, b.hi};
  else
    return {pair_high<half>(a.lo, b.lo), pair_high<half>(a.hi, b.hi)};
}
KERNEL_FN float first_lane(Lanes a) { return _mm256_cvtss_f32(a.lo); }

// The bits of bfloat_from_float, one in each 32-bit element.
KERNEL_FN __m256i bfloat_bits(__m256 a) {
  const __m256i bits = _mm256_castps_si256(a);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
  return _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
}

// The low halves of 16 32-bit elements.
KERNEL_FN __m256i pack_halves(__m256i lo, __m256i hi) {
  return _mm256_permute4x64_epi64(_mm256_packus_epi32(lo, hi), 0xd8);
}

template <Element e>
KERNEL_FN Lanes load_lanes(const Storage<e>* from) {
  if constexpr (e == Element::kF32)
    return {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)};
  else {
    const auto* halves = reinterpret_cast<const __m128i*>(from);
    const __m128i lo = _mm_loadu_si128(halves), hi = _mm_loadu_si128(halves + 1);
    if constexpr (e == Element::kF16)
      return {_mm256_cvtph_ps(lo), _mm256_cvtph_ps(hi)};
    else
      return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(lo), 16)),
              _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(hi), 16))};
  }
}

template <Element e>
KERNEL_FN void store_lanes(Storage<e>* to, Lanes a) {
  if constexpr (e == Element::kF32) {
    _mm256_storeu_ps(to, a.lo);
    _mm256_storeu_ps(to + 8, a.hi);
  } else if constexpr (e == Element::kF16) {
    auto* halves = reinterpret_cast<__m128i*>(to);
    _mm_storeu_si128(halves, _mm256_cvtps_ph(a.lo, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128(halves + 1, _mm256_cvtps_ph(a.hi, _MM_FROUND_TO_NEAREST_INT));
  } else {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), pack_halves(bfloat_bits(a.lo), bfloat_bits(a.hi)));
  }
}

template <Element e>
KERNEL_FN Lanes round_to(Lanes a) {
  if constexpr (e == Element::kF16)
    return {_mm256_cvtph_ps(_mm256_cvtps_ph(a.lo, _MM_FROUND_TO_NEAREST_INT)),
            _mm256_cvtph_ps(_mm256_cvtps_ph(a.hi, _MM_FROUND_TO_NEAREST_INT))};
  else if constexpr (e == Element::kBF16)
    return {_mm256_castsi256_ps(_mm256_slli_epi32(bfloat_bits(a.lo), 16)),
            _mm256_castsi256_ps(_mm256_slli_epi32(bfloat_bits(a.hi), 16))};
  else
    return a;
}

KERNEL_FN Lanes load_codes(const uint8_t* from) {
  const __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(codes)),
          _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(codes, 8)))};
}

KERNEL_FN void store_codes(uint8_t* to, Lanes a) {
  const __m256i halves = pack_halves(_mm256_cvttps_epi32(a.lo), _mm256_cvttps_epi32(a.hi));
  const __m128i codes = _mm_packus_epi16(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), codes);
}

}  // namespace roundhouse::kernels
