// The formulas of affine integer quantization, once for CPU lanes, vectors and CUDA threads. They follow auto-round
// 0.16 (data_type/int.py) operation by operation, because its results are matched bit for bit.
#pragma once

#include "affine.h"

namespace roundhouse::kernels {

// Where a span lies.
struct AffineSpan {
  int64_t group;
  int64_t begin;  // first element in the weight
  int64_t v;      // first element in v, whose rows are padded to whole groups
  int64_t size;
};

RH_HD AffineSpan affine_span(const AffineLayer& layer, int64_t index) {
  const int64_t per_row = affine_spans_per_row(layer);
  const int64_t row = index / per_row;
  const int64_t col = (index - row * per_row) * layer.span_cols;
  const int64_t left = layer.cols - col;
  return {layer.whole_tensor ? 0 : index, row * layer.cols + col, index * layer.span_cols,
          left < layer.span_cols ? left : layer.span_cols};
}

// The type in which torch divides a weight by a scale: their own when they agree, float32 when they differ.
RH_HD Element quotient_type(const AffineLayer& layer) {
  return layer.weight == layer.scale ? layer.weight : Element::kF32;
}

// What all elements of a group share.
struct AffineGroup {
  float scale;
  float zero, minus_zero;  // added before and after clamping; -0 for both keeps the sign of a rounded zero
  float bottom, top;       // codes are clamped to [bottom, top] and stored from 0
  float low, high;         // the range after min_scale and max_scale
  bool scale_free;         // not held by scale_threshold, so gradients pass
};

RH_HD AffineGroup affine_group(const AffineLayer& layer, float low, float high, float min_scale, float max_scale) {
  const Element arithmetic = layer.tuned ? Element::kF32 : layer.weight;
  AffineGroup group;
  group.low = low * unit_clamp(min_scale);
  group.high = high * unit_clamp(max_scale);

  const float levels = static_cast<float>(1 << layer.bits);
  float scale;
  if (layer.symmetric) {
    // The side of larger magnitude gets the code -2^(bits-1), which has no positive counterpart.
    const float extreme = group.high < -group.low ? -group.low : -group.high;
    const float magnitude = max_of(extreme, -extreme);
    scale = layer.mirrored
                ? round_to(arithmetic, group.low < 0 ? magnitude + magnitude : magnitude - group.low) / (levels - 1)
                : extreme / (levels / 2);
    group.bottom = -levels / 2;
    group.top = levels / 2 - 1;
  } else {
    scale = round_to(arithmetic, group.high - group.low) / (levels - 1);
    group.bottom = 0;
    group.top = levels - 1;
  }
  scale = round_to(layer.scale, round_to(arithmetic, scale));
  group.scale_free = !(scale < layer.scale_threshold && -scale < layer.scale_threshold);
  if (!group.scale_free) scale = scale < 0 ? -layer.scale_threshold : layer.scale_threshold;
  group.scale = scale;

  if (layer.symmetric) {
    // The reference's plain rounding of weights gives -0 for small negative quotients, its other rounding never does.
    group.zero = layer.tuned || layer.mirrored || layer.plus_zero ? 0.0f : -0.0f;
    group.minus_zero = -0.0f;
  } else {
    const float quotient = -group.low / scale;
    const float zero = round_even(layer.tuned ? quotient : round_to(quotient_type(layer), quotient)) + 0.0f;
    // Above the top only when a float16 scale near scale_threshold was rounded down by more than half a code in 255.
    group.zero = zero > group.top ? group.top : zero;
    group.minus_zero = -group.zero;
  }
  return group;
}

RH_HD AffineGroup affine_group(const AffineLayer& layer, const AffineInput& input, int64_t index) {
  return affine_group(layer, input.low[index], input.high[index], input.min_scale ? input.min_scale[index] : 1.0f,
                      input.max_scale ? input.max_scale[index] : 1.0f);
}

// One element's rounding, or a vector's. Value is float or a vector of kLanes floats with the operations of floats.h.
template <typename Value>
struct AffineRounded {
  Value quotient;  // w / scale, before v
  Value shifted;   // rounded quotient + v, plus the zero point
  Value code;      // clamped; `bottom` is stored as 0
};

template <Element weight, typename Value>
RH_HD Value affine_quotient(const AffineLayer& layer, Value w, Value scale) {
  const Value quotient = w / scale;
  if constexpr (weight != Element::kF32) {
    if (layer.scale == weight) return round_to<weight>(quotient);
  }
  return quotient;
}

// `position` is the quotient plus v.
template <typename Value>
RH_HD AffineRounded<Value> affine_round(const AffineGroup& group, Value quotient, Value position) {
  const Value shifted = round_even(position) + Value(group.zero);
  return {quotient, shifted, min_of(max_of(shifted, Value(group.bottom)), Value(group.top))};
}

template <typename Value>
RH_HD Value affine_value(const AffineGroup& group, Value code) {
  return Value(group.scale) * (code + Value(group.minus_zero));
}

// What the outer scale multiplies is of the weight's element type, as is the product.
template <Element weight, typename Value>
RH_HD Value times_outer(const float* outer_scale, Value value) {
  return outer_scale ? round_to<weight>(value) * Value(*outer_scale) : value;
}
// Of the gradient too.
template <Element weight, typename Value>
RH_HD Value gradient_times_outer(const float* outer_scale, Value gradient) {
  return outer_scale ? round_to<weight>(gradient * Value(*outer_scale)) : gradient;
}

// One element's part in the gradients, or a vector's.
template <typename Value>
struct AffineParts {
  Value v;                // gradient of v
  Value direct, clipped;  // terms of AffineSums
};

template <typename Value>
RH_HD AffineParts<Value> affine_parts(const AffineGroup& group, const AffineRounded<Value>& rounded, Value gradient) {
  const auto inside = equal(rounded.code, rounded.shifted);
  return {keep(inside, gradient * Value(group.scale)),
          gradient * ((rounded.code + Value(group.minus_zero)) - keep(inside, rounded.quotient)),
          drop(inside, gradient)};
}

// Gradients of a group's range, after min_scale and max_scale.
struct AffineSlopes {
  float low, high;
};

// Through the scale and, asymmetric, through the zero point z = -low / scale; rounding, casts and clamping of the zero
// point count as the identity.
RH_HD AffineSlopes affine_slopes(const AffineLayer& layer, const AffineGroup& group, AffineSums sums) {
  const float levels = static_cast<float>(1 << layer.bits);
  if (layer.mirrored) {
    const float step = group.scale_free ? sums.direct / (levels - 1) : 0.0f;
    const float magnitude = group.low < 0 ? step + step : step;
    const float low = group.low < 0 ? 0.0f : -step;
    if (group.high < -group.low) return {low - magnitude, 0.0f};
    if (group.high > -group.low) return {low, magnitude};
    return {low - magnitude / 2, magnitude / 2};  // a tie: half to each side, as torch.maximum does
  }
  if (layer.symmetric) {
    const float extreme = group.scale_free ? sums.direct / (levels / 2) : 0.0f;
    if (group.high < -group.low) return {-extreme, 0.0f};
    if (group.high > -group.low) return {0.0f, -extreme};
    return {extreme / 2, -extreme / 2};
  }
  const float scale = sums.direct - sums.clipped * group.low / group.scale;
  const float range = group.scale_free ? scale / (levels - 1) : 0.0f;
  return {sums.clipped - range, range};
}

struct AffineRangeGradients {
  float min_scale, max_scale;
};

// `low` and `high` are the group's range before min_scale and max_scale.
RH_HD AffineRangeGradients affine_range_gradients(const AffineLayer& layer, const AffineGroup& group, float low,
                                                  float high, AffineSums sums) {
  const AffineSlopes slopes = affine_slopes(layer, group, sums);
  return {slopes.low * low, slopes.high * high};
}

// Writes the range gradients of a group, or steps min_scale and max_scale.
RH_HD void affine_finish(const AffineGradients& out, int64_t index, AffineRangeGradients gradients) {
  if (out.min_scale) out.min_scale[index] = gradients.min_scale;
  if (out.max_scale) out.max_scale[index] = gradients.max_scale;
}
RH_HD void affine_finish(const AffineStep& step, int64_t index, AffineRangeGradients gradients) {
  const float rate = *step.range_rate;
  if (step.min_scale) step.min_scale[index] = unit_clamp(step.min_scale[index] - sign_times(rate, gradients.min_scale));
  if (step.max_scale) step.max_scale[index] = unit_clamp(step.max_scale[index] - sign_times(rate, gradients.max_scale));
}

// Adds the gradients of a span's range to those of its first smallest and first largest element.
RH_HD void add_slopes(const AffineLayer& layer, const AffineInput& input, const AffineSpan& span, AffineSlopes slopes,
                      void* gradient) {
  bool low_left = true, high_left = true;
  for (int64_t i = span.begin; i < span.begin + span.size && (low_left || high_left); ++i) {
    const float w = load_element(layer.weight, input.weight, i);
    const bool lowest = low_left && w == input.low[span.group], highest = high_left && w == input.high[span.group];
    if (!lowest && !highest) continue;
    const float added = (lowest ? slopes.low : 0.0f) + (highest ? slopes.high : 0.0f);
    store_element(layer.weight, gradient, i, load_element(layer.weight, gradient, i) + added);
    low_left = low_left && !lowest;
    high_left = high_left && !highest;
  }
}

}  // namespace roundhouse::kernels
