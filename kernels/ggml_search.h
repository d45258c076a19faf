// SPDX-License-Identifier: Apache-2.0
// The search for the scales and minimums of ggml's blocks: those whose finished blocks (f16 d and dmin, integer codes of
// the groups' scales and minimums, elements rounded with them) have the least weighted error. The formulas of groups,
// one in each element of Value.
//
// Each group is fitted freely first: a grid of ranges, least squares for the codes of each, and the error of the codes
// chosen anew. Then a super-block's d and dmin and its groups' codes descend in turn on the finished block's error.
//
// The error is Σ square e² + absolute |e|. A group's sums run in kSearchSums parts, element i in part
// i % kSearchSums, which a fixed tree then adds.
#pragma once

#include <math.h>

#include "ggml_math.h"

namespace roundhouse::kernels {

inline constexpr int kSearchSums = 8;
inline constexpr float kHalfMax = 65504;
// Ranges tried, in codes more than there are: more clip the ends, fewer leave room. Not inline: local to each object.
constexpr float kSearchRanges[] = {-1.0f, -0.9f, -0.8f, -0.7f, -0.6f, -0.5f, -0.4f, -0.3f, -0.2f, -0.1f, 0.0f,
                                   0.1f,  0.2f,  0.3f,  0.4f,  0.5f,  0.6f,  0.7f,  0.8f,  0.9f,  1.0f,  1.1f,
                                   1.2f,  1.4f,  1.6f,  1.8f,  2.1f,  2.4f,  2.7f,  3.1f,  3.5f,  4.0f,  4.5f};
inline constexpr int kSearchStarts = 2 * static_cast<int>(sizeof kSearchRanges / sizeof kSearchRanges[0]);
inline constexpr int kSearchRefinements = 8;  // of a group's best of one sign, or half of each of two, at most
inline constexpr int kSearchRounds = 8;       // of a super-block's descent, at most

// All [blocks, block_cols]; x is finite, the weights are not negative.
struct GgmlSearch {
  const float *x, *square;
  const float* absolute;  // null for none
  const float* fit;       // weights of least squares: square, or what stands for absolute
};

struct GgmlCodes {
  float low, high;
};

KERNEL_FN GgmlCodes ggml_search_codes(const GgmlLayer& layer) {
  const float levels = static_cast<float>(1 << layer.bits), half = levels / 2;
  if (!layer.symmetric) return {0.0f, levels - 1};
  return {layer.positive ? 1 - half : -half, half - 1};
}
KERNEL_FN GgmlCodes ggml_search_scale_codes(const GgmlLayer& layer) {
  const float levels = static_cast<float>(1 << layer.super_bits);
  return layer.symmetric ? GgmlCodes{-levels / 2, levels / 2 - 1} : GgmlCodes{0.0f, levels - 1};
}

template <typename Value>
KERNEL_FN Value clamped_half(Value x) {
  return round_to<Element::kF16>(min_of(Value(kHalfMax), max_of(Value(-kHalfMax), x)));
}

// x within [low, high]; a NaN stays one.
template <typename Value>
KERNEL_FN Value within(GgmlCodes range, Value x) {
  return min_of(Value(range.high), max_of(Value(range.low), x));
}

template <typename Value>
KERNEL_FN Value round_down(Value x) {
  const Value rounded = round_even(x);
  return rounded - keep(greater(rounded, x), Value(1.0f));
}

// The error, or infinity where the condition does not hold.
template <typename Value>
KERNEL_FN Value error_if(decltype(equal(Value(), Value())) condition, Value error) {
  return select(condition, error, Value(HUGE_VALF));
}

// The fit of a group: an element is scale * code - minimum.
template <typename Value>
struct GgmlFit {
  Value scale, minimum, error;
};

// The codes of (x + minimum), for which scale * code - minimum is nearest. |codes| are small, so adding 1.5 * 2^23
// rounds.
template <typename Value>
KERNEL_FN Value ggml_search_code(GgmlCodes codes, Value shifted, Value inverse) {
  return (within(codes, shifted * inverse) + Value(0x1.8p23f)) - Value(0x1.8p23f);
}

template <typename Value>
KERNEL_FN Value inverse_or_zero(Value scale) {
  return drop(equal(scale, Value(0.0f)), Value(1.0f) / scale);
}

// Sums over a group, weighted by fit, of its codes.
template <typename Value>
struct GgmlMoments {
  Value q, qq, qx;
};

// Of a group: Σ fit, Σ fit x.
template <typename Value>
struct GgmlFitSums {
  Value weight, x;
};

// The mean minimum for codes whose weighted sum is q.
template <typename Value>
KERNEL_FN Value ggml_best_minimum(const GgmlFitSums<Value>& sums, Value scale, Value q) {
  return (scale * q - sums.x) / sums.weight;
}

// Least squares for codes with these moments. As error 0, or infinity where it is of no use.
template <bool minimum, typename Value>
KERNEL_FN GgmlFit<Value> ggml_least_squares(const GgmlFitSums<Value>& sums, const GgmlMoments<Value>& m,
                                            bool any_minimum) {
  GgmlFit<Value> fit{m.qx / m.qq, Value(0.0f), Value(0.0f)};
  if constexpr (minimum) {
    const Value determinant = sums.weight * m.qq - m.q * m.q;
    const Value free_minimum = (m.q * m.qx - m.qq * sums.x) / determinant;
    const Value free_scale = (sums.weight * m.qx - sums.x * m.q) / determinant;
    const auto solvable = greater(determinant, Value(1e-6f) * sums.weight * m.qq);
    // A minimum that may not be negative and would be is 0.
    const Value room = any_minimum ? Value(1.0f) : free_minimum;
    const auto use = greater(keep(solvable, room), Value(0.0f));
    fit.scale = select(use, free_scale, fit.scale);
    fit.minimum = keep(use, free_minimum);
    fit.error = error_if(greater(fit.scale, Value(0.0f)), fit.error);
  }
  fit.error = error_if(equal(fit.scale - fit.scale, Value(0.0f)), fit.error);  // finite
  return fit;
}

// The scale and minimum of start k for a group's range [low, high].
template <bool minimum, typename Value>
KERNEL_FN GgmlFit<Value> ggml_search_start(GgmlCodes codes, int k, Value low, Value high) {
  const float extra = kSearchRanges[k / 2];
  if constexpr (minimum) {
    // A range of about the group's size, with the same lower end or the same upper one.
    const Value scale = (high - low) / Value(codes.high + extra);
    return {scale, k % 2 ? Value(codes.high) * scale - high : -low, Value(0.0f)};
  } else {
    // The largest element on about the lowest code or the highest.
    const Value extreme = select(greater(high, -low), high, low);
    return {extreme / Value(k % 2 ? codes.high + extra : codes.low - extra), Value(0.0f), Value(0.0f)};
  }
}

template <typename Value>
KERNEL_FN void take_if(decltype(equal(Value(), Value())) condition, const GgmlFit<Value>& fit, GgmlFit<Value>& best) {
  best.scale = select(condition, fit.scale, best.scale);
  best.minimum = select(condition, fit.minimum, best.minimum);
  best.error = select(condition, fit.error, best.error);
}

// How far from the nearest integer those of a group's scale are tried in a round of the descent: the error has many
// minima, and the first rounds find a better one.
KERNEL_FN int ggml_search_reach(GgmlCodes scale_codes, int round) {
  const int eighth = static_cast<int>(scale_codes.high - scale_codes.low + 1) / 8;
  return round < 2 || eighth < 4 ? eighth : eighth / 4;
}

// The values of d tried: the largest scale takes one of the upper integers; or, of a group that few elements dominate,
// none. Then those around the best.
struct GgmlSteps {
  float first, step;
  int coarse, fine;
};

KERNEL_FN GgmlSteps ggml_search_steps(bool symmetric) {
  return symmetric ? GgmlSteps{1.5f, 0.015f, 60, 6} : GgmlSteps{1.15f, 0.01f, 32, 6};
}
KERNEL_FN float ggml_coarse_divisor(const GgmlSteps& steps, GgmlCodes scale_codes, int k) {
  const float extreme = max_of(scale_codes.high, -scale_codes.low);
  return extreme * (steps.first - steps.step * static_cast<float>(k));
}
KERNEL_FN float ggml_fine_factor(const GgmlSteps& steps, int k) {
  return 1 + 0.15f * steps.step * static_cast<float>(k - steps.fine);
}

// The float16 that is k places from the one nearest to x; NaN where that is past 0 or the largest.
KERNEL_FN float half_beside(float x, int k) {
  const uint16_t bits = half_from_float(min_of(kHalfMax, max_of(-kHalfMax, x)));
  const uint16_t beside = static_cast<uint16_t>(bits + k);
  if (((beside ^ bits) & 0x8000) || (beside & 0x7fff) > 0x7bff) return bits_float(0x7fc00000u);
  return float_from_half(beside);
}

// Sums over a block's groups, of their integers s and m and the moments of their codes.
struct GgmlSuperSums {
  double ss, sm, mm, sx, mx;
};

KERNEL_FN void ggml_add(GgmlSuperSums& sums, double s, double m, const GgmlMoments<float>& moments,
                        const GgmlFitSums<float>& group) {
  sums.ss += s * s * moments.qq;
  sums.sx += s * moments.qx;
  sums.sm += s * m * moments.q;
  sums.mm += m * m * group.weight;
  sums.mx += m * group.x;
}

// d and dmin of least squares for the elements' codes.
KERNEL_FN void ggml_refit(const GgmlSuperSums& sums, bool symmetric, float& d, float& dmin) {
  const double determinant = sums.ss * sums.mm - sums.sm * sums.sm;
  if (determinant > 1e-9 * sums.ss * sums.mm)
    dmin = clamped_half(static_cast<float>((sums.sx * sums.sm - sums.ss * sums.mx) / determinant));
  if (dmin < 0) dmin = 0;
  if (sums.ss > 0) d = clamped_half(static_cast<float>((sums.sx + sums.sm * dmin) / sums.ss));
  if (!symmetric && d < 0) d = 0;
  if (sums.mm > 0) dmin = max_of(clamped_half(static_cast<float>((sums.sm * d - sums.mx) / sums.mm)), 0.0f);
}

}  // namespace roundhouse::kernels
