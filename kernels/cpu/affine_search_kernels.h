// SPDX-License-Identifier: Apache-2.0
// The search for scales over Lanes. Included once by each target's source, after affine_kernels.h.
#pragma once

#include "kernels/affine_search.h"
#include "kernels/cpu/affine_kernels.h"

namespace roundhouse::kernels {

// use(w, importance, lanes) for each kLanes weights of a span; importance only when there is some.
template <Element weight, typename Use>
KERNEL_FN void for_weights(const Storage<weight>* w, const float* importance, int64_t size, Use&& use) {
  for_lanes(size, [&](int64_t i, auto lanes) {
    use(load<weight>(w + i, lanes), importance ? load<Element::kF32>(importance + i, lanes) : Lanes(0.0f));
  });
}

template <Element weight>
KERNEL_FN AffineImportance importance_of_span(const AffineLayer& layer, const Storage<weight>* w,
                                              const float* importance, int64_t size) {
  if (!importance) return {ImportanceKind::kNone, 0.0f};
  Lanes channels(0.0f), sum(0.0f), squares(0.0f);
  for_weights<weight>(w, importance, size, [&](Lanes x, Lanes given) {
    channels = channels + keep(greater(given, Lanes(kNoImportance)), Lanes(1.0f));
    sum = sum + given;
    squares = squares + round_to<weight>(x * x);
  });
  return affine_importance<weight>(layer, size, sum_lanes(channels), sum_lanes(sum), sum_lanes(squares));
}

// The best scale of a span whose weight of largest magnitude is `extreme`.
template <Element weight, ImportanceKind kind>
KERNEL_FN float search_span(const AffineLayer& layer, const Storage<weight>* w, const float* given, int64_t size,
                            AffineImportance importance, float extreme) {
  const float reciprocal = guarded_reciprocal<weight>(extreme);
  float best_scale = 0.0f, best = 0.0f;
  for (int candidate = 0; candidate < affine_candidates(layer); ++candidate) {
    const float inverse = round_to<weight>(affine_candidate(layer, candidate) * reciprocal);
    const float scale = guarded_reciprocal<weight>(inverse);
    Lanes errors(0.0f);
    for_weights<weight>(w, given, size, [&](Lanes x, Lanes given_lanes) {
      Lanes error = affine_error<weight>(layer, inverse, scale, x);
      if constexpr (kind != ImportanceKind::kNone)
        error = error * importance_of<kind, weight>(importance, given_lanes, x);
      errors = errors + error;
    });
    const float total = sum_lanes(errors);
    if (candidate > 0 && !(total < best)) continue;
    best = total;
    best_scale = scale;
  }
  return best_scale;
}

// Moves the ends of a span's range to the best ones.
template <Element weight, ImportanceKind kind>
KERNEL_FN void search_range(const AffineLayer& layer, const Storage<weight>* w, const float* given, int64_t size,
                            AffineImportance importance, float& low, float& high) {
  const auto error_of = [&](const AffineGroup& group) {
    Lanes errors(0.0f);
    for_weights<weight>(w, given, size, [&](Lanes x, Lanes given_lanes) {
      Lanes error = affine_group_error<weight>(layer, group, x);
      if constexpr (kind != ImportanceKind::kNone)
        error = error * importance_of<kind, weight>(importance, given_lanes, x);
      errors = errors + error;
    });
    return sum_lanes(errors);
  };
  const float plain_low = low, plain_high = high;
  float best = error_of(affine_group(layer, low, high, 1.0f, 1.0f));
  for (int candidate = 0; candidate < kAffineRanges; ++candidate) {
    float to_low = plain_low, to_high = plain_high;
    const float total = error_of(affine_range_candidate(layer, candidate, to_low, to_high));
    if (!(total < best)) continue;
    best = total;
    low = to_low;
    high = to_high;
  }
}

template <Element weight, ImportanceKind kind>
static void search_of_span(const AffineLayer& layer, const AffineSearch& input, const AffineSpan& span,
                           const float* given, AffineImportance importance, float& low, float& high) {
  const Storage<weight>* w = elements<weight>(input.weight) + span.begin;
  if (!layer.symmetric) return search_range<weight, kind>(layer, w, given, span.size, importance, low, high);
  const float extreme = affine_extreme(layer, input.weight, span, low, high);
  affine_range_of_scale(layer, search_span<weight, kind>(layer, w, given, span.size, importance, extreme), low, high);
}

static void search(const AffineLayer& layer, const AffineSearch& input, float* low, float* high, int64_t begin,
                   int64_t end) {
  const int64_t per_row = affine_spans_per_row(layer);
  with_element(layer.weight, [&](auto w_tag) {
    constexpr Element weight = w_tag.value;
    for (int64_t i = begin; i < end; ++i) {
      if (!(low[i] == low[i])) continue;  // NaN stays NaN
      const AffineSpan span = affine_span(layer, i);
      const float* given = input.importance ? input.importance + i % per_row * layer.span_cols : nullptr;
      const AffineImportance importance =
          importance_of_span<weight>(layer, elements<weight>(input.weight) + span.begin, given, span.size);
      const auto search = importance.kind == ImportanceKind::kNone ? search_of_span<weight, ImportanceKind::kNone>
                          : importance.kind == ImportanceKind::kGiven
                              ? search_of_span<weight, ImportanceKind::kGiven>
                              : search_of_span<weight, ImportanceKind::kMagnitude>;
      search(layer, input, span, given, importance, low[i], high[i]);
    }
  });
}

}  // namespace roundhouse::kernels
