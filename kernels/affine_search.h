// SPDX-License-Identifier: Apache-2.0
// The search for scales and zero points: candidates around the plain ones, of which those with the least
// (importance-weighted) squared error stay; errors are summed in float32. Symmetric as auto-round 0.16 has it
// (data_type/int.py, opt_rtn_int_sym), whose arithmetic is that of the weight's element type. Asymmetric, where it has
// none, both ends of the range move, and the error is that of the rounding that follows.
#pragma once

#include <math.h>

#include "affine_math.h"

namespace roundhouse::kernels {

struct AffineSearch {
  const void* weight;
  const float* importance;  // [cols], or null
};

KERNEL_FN int affine_candidates(const AffineLayer& layer) { return layer.bits == 2 ? 181 : 201; }

// Candidate `index` maps the group's extreme weight to the code that this returns (not rounded): first the plain
// scale's, then from the widest range to the narrowest.
KERNEL_FN float affine_candidate(const AffineLayer& layer, int index) {
  const int half = affine_candidates(layer) / 2;
  const int offset = index == 0 ? 0 : index <= half ? index - 1 - half : index - half;
  const double levels = 1 << (layer.bits - 1);
  const double step = layer.bits == 2 ? 0.01 : levels * 0.75 / 200 * 2;
  return static_cast<float>(-(levels - step * offset));
}

// Zero where x is too small to be divided by.
template <Element e>
KERNEL_FN float guarded_reciprocal(float x) {
  const float smallest = round_to<e>(e == Element::kF16 ? 1e-5f : 1e-30f);
  return max_of(x, -x) >= smallest ? round_to<e>(1.0f / x) : 0.0f;
}

// The weight of largest magnitude; the first of several.
KERNEL_FN float affine_extreme(const AffineLayer& layer, const void* weight, const AffineSpan& span, float low,
                               float high) {
  if (high > -low) return high;
  if (high < -low) return low;
  for (int64_t i = 0; i < span.size; ++i) {
    const float w = load_element(layer.weight, weight, span.begin + i);
    if (w == low || w == high) return w;
  }
  return low;  // NaN
}

// The squared error of weights w, before their importance.
template <Element weight, typename Value>
KERNEL_FN Value affine_error(const AffineLayer& layer, float inverse, float scale, Value w) {
  const float levels = static_cast<float>(1 << (layer.bits - 1));
  const Value rounded = round_even(round_to<weight>(Value(inverse) * w));
  const Value code = min_of(max_of(rounded, Value(-levels)), Value(levels - 1));
  const Value error = round_to<weight>(round_to<weight>(Value(scale) * code) - w);
  return error * error;
}

// ---- importance: channels that no calibration input reached count as the mean of the group's others, or, when they
// are more than half of the group, every weight counts by its magnitude ----

enum class ImportanceKind { kNone, kGiven, kMagnitude };

struct AffineImportance {
  ImportanceKind kind;
  float value;  // kGiven: of channels without; kMagnitude: added to each
};

inline constexpr float kNoImportance = 1e-30f;

// From the group's number of channels that have importance, their sum and the sum of the squared weights.
template <Element weight>
KERNEL_FN AffineImportance affine_importance(const AffineLayer& layer, int64_t size, float channels, float sum,
                                             float squares) {
  const int64_t half = layer.span_cols / 2;
  if (static_cast<float>(size) - channels <= static_cast<float>(half)) return {ImportanceKind::kGiven, sum / channels};
  if (layer.bits <= 3) return {ImportanceKind::kMagnitude, 0.0f};
  return {ImportanceKind::kMagnitude, round_to<weight>(sqrtf(round_to<weight>(round_to<weight>(squares) / 32)))};
}

template <ImportanceKind kind, Element weight, typename Value>
KERNEL_FN Value importance_of(AffineImportance importance, Value given, Value w) {
  if constexpr (kind == ImportanceKind::kGiven) {
    const auto has = greater(given, Value(kNoImportance));
    return keep(has, given) + drop(has, Value(importance.value));
  } else {
    return round_to<weight>(max_of(w, Value(0.0f) - w) + Value(importance.value));
  }
}

// ---- ranges, of layers with zero points ----

// Of each end.
inline constexpr int kAffineEnds = 16;
inline constexpr int kAffineRanges = kAffineEnds * kAffineEnds;

// A factor of an end: a little more than the plain range, then the less the fewer the bits.
KERNEL_FN float affine_end_factor(const AffineLayer& layer, int index) {
  return 1.0f + min_of(0.04f, 0.12f / static_cast<float>(layer.bits)) * static_cast<float>(1 - index);
}

// The group of candidate `index`, whose ends are `low` and `high` then.
KERNEL_FN AffineGroup affine_range_candidate(const AffineLayer& layer, int index, float& low, float& high) {
  low = low * affine_end_factor(layer, index / kAffineEnds);
  high = high * affine_end_factor(layer, index % kAffineEnds);
  return affine_group(layer, low, high, 1.0f, 1.0f);
}

// The squared error of weights w, before their importance.
template <Element weight, typename Value>
KERNEL_FN Value affine_group_error(const AffineLayer& layer, const AffineGroup& group, Value w) {
  const Value quotient = affine_quotient<weight>(layer, w, Value(group.scale));
  const Value error = round_to<weight>(affine_value(group, affine_round(group, quotient, quotient).code)) - w;
  return error * error;
}

// The range from which affine_group() makes this scale.
KERNEL_FN void affine_range_of_scale(const AffineLayer& layer, float scale, float& low, float& high) {
  const float extreme = scale * static_cast<float>(1 << (layer.bits - 1));
  low = scale < 0 ? 0.0f : -extreme;
  high = scale < 0 ? -extreme : 0.0f;
}

}  // namespace roundhouse::kernels
