// SPDX-License-Identifier: Apache-2.0
// The formulas of affine integer quantization, once for CPU lanes, vectors and CUDA threads. They follow auto-round
// 0.16 (data_type/int.py) operation by operation, because its results are matched bit for bit.
#pragma once

#include "affine.h"

namespace roundhouse::kernels {

// Where a span lies.
struct AffineSpan {
  int64_t group;
  int64_t begin;  // first element in the weight
  int64_t col;
  int64_t v;  // first element in v, whose rows are padded to whole groups
  int64_t size;
};

// `per_row`: affine_spans_per_row(layer).
KERNEL_FN AffineSpan affine_span(const AffineLayer& layer, int64_t index, int64_t per_row) {
  const int64_t row = index / per_row;
  const int64_t col = (index - row * per_row) * layer.span_cols;
  const int64_t left = layer.cols - col;
  return {layer.whole_tensor ? 0 : index, row * layer.cols + col, col, index * layer.span_cols,
          left < layer.span_cols ? left : layer.span_cols};
}

KERNEL_FN AffineSpan affine_span(const AffineLayer& layer, int64_t index) {
  return affine_span(layer, index, affine_spans_per_row(layer));
}

// From the span before `index` to that at `index`.
KERNEL_FN void affine_advance(const AffineLayer& layer, int64_t index, AffineSpan& span) {
  if (span.col + layer.span_cols >= layer.cols) {
    span = affine_span(layer, index);
    return;
  }
  const int64_t left = layer.cols - span.col - layer.span_cols;
  span.group += layer.whole_tensor ? 0 : 1;
  span.begin += layer.span_cols;
  span.col += layer.span_cols;
  span.v += layer.span_cols;
  span.size = left < layer.span_cols ? left : layer.span_cols;
}

// The type in which torch divides a weight by a scale: their own when they agree, float32 when they differ.
KERNEL_FN Element quotient_type(const AffineLayer& layer) {
  return layer.weight == layer.scale ? layer.weight : Element::kF32;
}

// What all elements of a group share; of Value groups.
template <typename Value>
struct AffineGroups {
  Value scale;
  Value zero, minus_zero;  // added before and after clamping; -0 for both keeps the sign of a rounded zero
  float bottom, top;       // codes are clamped to [bottom, top] and stored from 0
  Value low, high;         // the range after min_scale and max_scale
  decltype(equal(Value(), Value())) held;  // by scale_threshold, so no gradients pass to the scale
};
using AffineGroup = AffineGroups<float>;

template <typename Value>
KERNEL_FN AffineGroups<Value> affine_group(const AffineLayer& layer, Value low, Value high, Value min_scale,
                                           Value max_scale) {
  const Element arithmetic = layer.tuned ? Element::kF32 : layer.weight;
  const Value none(0.0f);
  AffineGroups<Value> group;
  group.low = low * range_factor(min_scale, layer.range_limit);
  group.high = high * range_factor(max_scale, layer.range_limit);

  const float levels = static_cast<float>(1 << layer.bits);
  Value scale;
  if (layer.symmetric) {
    // The side of larger magnitude gets the code -2^(bits-1), which has no positive counterpart.
    const Value extreme = select(greater(-group.low, group.high), -group.low, -group.high);
    if (layer.mirrored) {
      const Value magnitude = max_of(extreme, -extreme);
      const Value width = select(greater(none, group.low), magnitude + magnitude, magnitude - group.low);
      scale = round_to(arithmetic, width) / Value(levels - 1);
    } else {
      scale = extreme / Value(levels / 2);
    }
    group.bottom = -levels / 2;
    group.top = levels / 2 - 1;
  } else {
    scale = round_to(arithmetic, group.high - group.low) / Value(levels - 1);
    group.bottom = 0;
    group.top = levels - 1;
  }
  scale = round_to(layer.scale, round_to(arithmetic, scale));
  const Value threshold(layer.scale_threshold);
  group.held = greater(threshold, magnitude(scale));
  scale = select(group.held, select(greater(none, scale), -threshold, threshold), scale);
  group.scale = scale;

  if (layer.symmetric) {
    // The reference's plain rounding of weights gives -0 for small negative quotients, its other rounding never does.
    group.zero = Value(layer.tuned || layer.mirrored || layer.plus_zero ? 0.0f : -0.0f);
    group.minus_zero = Value(-0.0f);
  } else {
    const Value quotient = -group.low / scale;
    const Value zero = round_even(layer.tuned ? quotient : round_to(quotient_type(layer), quotient)) + none;
    // Above the top only when a float16 scale near scale_threshold was rounded down by more than half a code in 255.
    group.zero = select(greater(zero, Value(group.top)), Value(group.top), zero);
    group.minus_zero = -group.zero;
  }
  return group;
}

KERNEL_FN AffineGroup affine_group(const AffineLayer& layer, const AffineInput& input, int64_t index) {
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
KERNEL_FN Value affine_quotient(const AffineLayer& layer, Value w, Value scale) {
  const Value quotient = w / scale;
  if constexpr (weight != Element::kF32) {
    if (layer.scale == weight) return round_to<weight>(quotient);
  }
  return quotient;
}

// `position` is the quotient plus v.
template <typename Value>
KERNEL_FN AffineRounded<Value> affine_round(const AffineGroup& group, Value quotient, Value position) {
  const Value shifted = round_even(position) + Value(group.zero);
  return {quotient, shifted, at_most(at_least(shifted, Value(group.bottom)), Value(group.top))};
}

template <typename Value>
KERNEL_FN Value affine_value(const AffineGroup& group, Value code) {
  return Value(group.scale) * (code + Value(group.minus_zero));
}

// What the outer scale multiplies is of the weight's element type, as is the product.
template <Element weight, typename Value>
KERNEL_FN Value times_outer(const float* outer_scale, Value value) {
  return outer_scale ? round_to<weight>(value) * Value(*outer_scale) : value;
}
// Of the gradient too.
template <Element weight, typename Value>
KERNEL_FN Value gradient_times_outer(const float* outer_scale, Value gradient) {
  return outer_scale ? round_to<weight>(gradient * Value(*outer_scale)) : gradient;
}

// One element's part in the gradients, or a vector's.
template <typename Value>
struct AffineParts {
  Value v;                // gradient of v
  Value direct, clipped;  // terms of AffineSums
};

template <typename Value>
KERNEL_FN AffineParts<Value> affine_parts(const AffineGroup& group, const AffineRounded<Value>& rounded,
                                          Value gradient) {
  const auto inside = equal(rounded.code, rounded.shifted);
  return {keep(inside, gradient * Value(group.scale)),
          gradient * ((rounded.code + Value(group.minus_zero)) - keep(inside, rounded.quotient)),
          drop(inside, gradient)};
}

// Gradients of a group's range, after min_scale and max_scale; of Value groups.
template <typename Value>
struct AffineRangeSlopes {
  Value low, high;
};
using AffineSlopes = AffineRangeSlopes<float>;

// Through the scale and, asymmetric, through the zero point z = -low / scale; rounding, casts and clamping of the zero
// point count as the identity. `direct` and `clipped` are those of AffineSums.
template <typename Value>
KERNEL_FN AffineRangeSlopes<Value> affine_slopes(const AffineLayer& layer, const AffineGroups<Value>& group,
                                                 Value direct, Value clipped) {
  const float levels = static_cast<float>(1 << layer.bits);
  const Value none(0.0f), two(2.0f);
  if (!layer.symmetric) {
    const Value scale = direct - clipped * group.low / group.scale;
    const Value range = drop(group.held, scale / Value(levels - 1));
    return {clipped - range, range};
  }
  const auto low_wins = greater(-group.low, group.high), high_wins = greater(group.high, -group.low);
  if (layer.mirrored) {
    const Value step = drop(group.held, direct / Value(levels - 1));
    const auto negative = greater(none, group.low);
    const Value magnitude = select(negative, step + step, step), low = drop(negative, -step);
    // A tie: half to each side, as torch.maximum does.
    return {select(low_wins, low - magnitude, select(high_wins, low, low - magnitude / two)),
            drop(low_wins, select(high_wins, magnitude, magnitude / two))};
  }
  const Value extreme = drop(group.held, direct / Value(levels / 2));
  return {select(low_wins, -extreme, drop(high_wins, extreme / two)),
          drop(low_wins, select(high_wins, -extreme, -extreme / two))};
}
KERNEL_FN AffineSlopes affine_slopes(const AffineLayer& layer, const AffineGroup& group, AffineSums sums) {
  return affine_slopes(layer, group, sums.direct, sums.clipped);
}

template <typename Value>
struct RangeGradients {
  Value min_scale, max_scale;
};
using AffineRangeGradients = RangeGradients<float>;

// `low` and `high` are the group's range before min_scale and max_scale.
KERNEL_FN AffineRangeGradients affine_range_gradients(const AffineLayer& layer, const AffineGroup& group, float low,
                                                      float high, AffineSums sums) {
  const AffineSlopes slopes = affine_slopes(layer, group, sums);
  return {slopes.low * low, slopes.high * high};
}

// Writes the range gradients of a group, or steps min_scale and max_scale.
KERNEL_FN void affine_finish(const AffineGradients& out, int64_t index, AffineRangeGradients gradients) {
  if (out.min_scale) out.min_scale[index] = gradients.min_scale;
  if (out.max_scale) out.max_scale[index] = gradients.max_scale;
}
KERNEL_FN void affine_finish(const AffineStep& step, int64_t index, AffineRangeGradients gradients) {
  const float rate = *step.range_rate;
  if (step.min_scale)
    step.min_scale[index] =
        range_factor(step.min_scale[index] - sign_times(rate, gradients.min_scale), step.range_limit);
  if (step.max_scale)
    step.max_scale[index] =
        range_factor(step.max_scale[index] - sign_times(rate, gradients.max_scale), step.range_limit);
}

// Adds the gradients of a span's range to those of its first smallest and first largest element, which lie `low` and
// `high` elements after its beginning; INT32_MAX: there is none.
template <Element weight>
KERNEL_FN void add_slopes(const AffineSpan& span, AffineSlopes slopes, int32_t low, int32_t high, void* gradient) {
  const auto add = [&](int32_t place, float slope) {
    const int64_t at = span.begin + place;
    store_element(weight, gradient, at, load_element(weight, gradient, at) + slope);
  };
  if (low == high) {
    if (low != INT32_MAX) add(low, slopes.low + slopes.high);
    return;
  }
  if (low != INT32_MAX) add(low, slopes.low + 0.0f);
  if (high != INT32_MAX) add(high, 0.0f + slopes.high);
}

}  // namespace roundhouse::kernels
