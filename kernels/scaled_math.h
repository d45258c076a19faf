// SPDX-License-Identifier: Apache-2.0
// The formulas of scaled small floats, once for CPU lanes, vectors and CUDA threads. They follow auto-round 0.16
// (data_type/fp8.py, mxfp.py, nvfp.py) operation by operation, because its results are matched bit for bit.
#pragma once

#include <math.h>

#include "scaled.h"

namespace roundhouse::kernels {

// Where a span lies.
struct ScaledSpan {
  int64_t group;
  int64_t begin;  // first element in the input
  int64_t col;
  int64_t v;      // first element in v
  int64_t v_end;  // up to where v has no other span's elements
  int64_t size;
  bool first;  // of its group
};

// `per_row`: scaled_spans_per_row(layer).
KERNEL_FN ScaledSpan scaled_span(const ScaledLayer& layer, int64_t index, int64_t per_row) {
  const int64_t row = index / per_row, place = index - row * per_row;
  const int64_t col = place * layer.span_cols, left = layer.cols - col;
  const int64_t group_row = layer.group_rows == 1 ? row : row / layer.group_rows;
  const int64_t within = row - group_row * layer.group_rows;
  const int64_t group = group_row * per_row + place;
  const int64_t v_row = group * layer.group_rows + within;
  return {group,
          row * layer.cols + col,
          col,
          v_row * layer.span_cols,
          (row + 1 < layer.rows ? v_row + 1 : (group + 1) * layer.group_rows) * layer.span_cols,
          left < layer.span_cols ? left : layer.span_cols,
          within == 0};
}
KERNEL_FN ScaledSpan scaled_span(const ScaledLayer& layer, int64_t index) {
  return scaled_span(layer, index, scaled_spans_per_row(layer));
}

// From the span before `index` to that at `index`.
KERNEL_FN void scaled_advance(const ScaledLayer& layer, int64_t index, ScaledSpan& span) {
  if (span.col + layer.span_cols >= layer.cols) {
    span = scaled_span(layer, index);
    return;
  }
  const int64_t left = layer.cols - span.col - layer.span_cols, to_v = layer.group_rows * layer.span_cols;
  span.group += 1;
  span.begin += layer.span_cols;
  span.col += layer.span_cols;
  span.v += to_v;
  span.v_end += to_v;
  span.size = left < layer.span_cols ? left : layer.span_cols;
}

// The index of the span `row` rows below the group's first, and how many the group has.
KERNEL_FN int64_t scaled_span_of_group(const ScaledLayer& layer, int64_t group, int64_t row) {
  const int64_t per_row = scaled_spans_per_row(layer);
  return (group / per_row * layer.group_rows + row) * per_row + group % per_row;
}
KERNEL_FN int64_t scaled_rows_of_group(const ScaledLayer& layer, int64_t group) {
  const int64_t left = layer.rows - group / scaled_spans_per_row(layer) * layer.group_rows;
  return left < layer.group_rows ? left : layer.group_rows;
}

// What all elements of a group share; of Value groups.
template <typename Value>
struct ScaledGroups {
  Value shown;     // ScaledOutput::scale
  Value quotient;  // x = w / quotient, or w * quotient where scaled_multiplies()
  Value scale;     // w' = element * scale
  Value slope;     // d scale / d max_scale; 0 where the scale is held
};
using ScaledGroup = ScaledGroups<float>;

KERNEL_FN bool scaled_multiplies(ScaleRule rule) {
  return rule == ScaleRule::kFloor || rule == ScaleRule::kCeil || rule == ScaleRule::kNvfp4;
}

template <typename Value>
KERNEL_FN Value reciprocal(Value x) {
  return drop(equal(x, Value(0.0f)), Value(1.0f) / x);
}

constexpr float kLargestFloat = 3.40282346638528859812e38f;
constexpr float kSixth = 1.0f / 6.0f;

// G. Where 1 / largest overflows the reference goes on with infinity; the largest float keeps NaN away.
KERNEL_FN float scaled_global(const ScaledLayer& layer, float largest) {
  return layer.given ? largest : min_of(2688.0f * reciprocal(largest), kLargestFloat);
}

// Quotient and scale of kNvfp4 from its two scales. The reference divides by reciprocals of reciprocals.
template <typename Value>
KERNEL_FN ScaledGroups<Value> scaled_two_level(Value scale, float global) {
  const Value quotient = reciprocal(scale * Value(reciprocal(global)));
  const auto finite = greater(Value(bits_float(0x7f800000u)), quotient);
  return {scale, keep(finite, quotient), keep(finite, reciprocal(quotient)), Value(0.0f)};
}

template <typename Value>
KERNEL_FN ScaledGroups<Value> scaled_power(Value exponent) {
  exponent = min_of(max_of(exponent, Value(-127.0f)), Value(127.0f));
  return {exponent, power_of_two(-exponent), power_of_two(exponent), Value(0.0f)};
}

// Of x that is not negative; -127 of subnormal numbers.
template <typename Value>
KERNEL_FN Value floor_log2(Value x) {
  return number_of_bits(power_below(x)) * Value(0x1p-23f) - Value(127.0f);
}
// At least -127.
template <typename Value>
KERNEL_FN Value ceil_log2(Value x) {
  return floor_log2(x) + keep(greater(x, max_of(power_below(x), Value(0x1p-127f))), Value(1.0f));
}

template <typename Value>
KERNEL_FN ScaledGroups<Value> scaled_group(const ScaledLayer& layer, Value maximum, Value max_scale, float largest) {
  const Value m = maximum * range_factor(max_scale, layer.range_limit), zero(0.0f), one(1.0f);
  ScaledGroups<Value> group{one, one, one, zero};
  switch (layer.rule) {
    case ScaleRule::kUnit:
      break;
    case ScaleRule::kRatio: {
      if (layer.given) {
        group.shown = group.quotient = group.scale = maximum;
        break;
      }
      const Value top(layer.element.max), smallest(layer.smallest);
      const Value ratio = round_to(layer.scale, round_to(layer.arithmetic, m / top));
      const auto held = greater(smallest, ratio);
      group.shown = group.quotient = group.scale = select(held, smallest, ratio);
      group.slope = drop(held, maximum / top);
      break;
    }
    case ScaleRule::kFloor:
    case ScaleRule::kCeil: {
      const auto none = equal(m, zero);
      const bool floor = layer.rule == ScaleRule::kFloor;
      // 1 for zeros is the reference's choice.
      const Value wanted = select(none, one, floor ? floor_log2(m) : ceil_log2(m / Value(layer.divisor))) -
                           Value(floor ? floor_log2(layer.element.max) : 0.0f);
      group = scaled_power(wanted);
      group.slope = keep(equal(wanted, group.shown), drop(none, group.scale * (maximum / m)));
      break;
    }
    case ScaleRule::kNvfp4: {
      const float global = scaled_global(layer, largest);
      const Value wanted = Value(global) * (m * Value(kSixth)), top(e4m3().max);
      group = scaled_two_level(round_small(e4m3(), min_of(wanted, top)), global);
      group.slope = drop(greater(wanted, top), drop(equal(group.scale, zero), maximum * Value(kSixth)));
      break;
    }
    case ScaleRule::kUe5m3: {
      const Value wanted = m * Value(kSixth), top(ue5m3().max);
      group.shown = group.scale = round_small(ue5m3(), min_of(wanted, top));
      group.quotient = select(equal(group.scale, zero), Value(bits_float(0x7f800000u)), group.scale);  // x = 0
      group.slope = drop(greater(wanted, top), maximum * Value(kSixth));
      break;
    }
  }
  return group;
}

KERNEL_FN ScaledGroup scaled_group(const ScaledLayer& layer, const ScaledInput& input, int64_t index) {
  return scaled_group(layer, layer.rule == ScaleRule::kUnit ? 0.0f : input.maximum[index],
                      input.max_scale ? input.max_scale[index] : 1.0f, input.largest ? *input.largest : 0.0f);
}

// What an engine must know of a calibrated activation: its scale, or of kNvfp4 G.
KERNEL_FN float scaled_calibrated(const ScaledLayer& layer, const ScaledInput& input) {
  return layer.rule == ScaleRule::kNvfp4 ? scaled_global(layer, *input.largest) : scaled_group(layer, input, 0).scale;
}

// One element's rounding, or a vector's. Value is float or a vector of kLanes floats with the operations of floats.h.
template <typename Value>
struct ScaledRounded {
  Value quotient;  // before v
  Value position;  // quotient + v
  Value clamped;
  Value element;
};

template <Element type, typename Value>
KERNEL_FN Value scaled_quotient(const ScaledLayer& layer, const ScaledGroup& group, Value w) {
  if constexpr (type == Element::kF16)
    if (layer.half_as_bfloat) w = round_to<Element::kBF16>(w);
  if (scaled_multiplies(layer.rule)) return w * Value(group.quotient);
  const Value quotient = w / Value(group.quotient);
  if constexpr (type == Element::kBF16)
    if (layer.arithmetic == Element::kBF16) return round_to<Element::kBF16>(quotient);
  return quotient;
}

template <typename Value>
KERNEL_FN ScaledRounded<Value> scaled_round(const ScaledLayer& layer, Value quotient, Value v) {
  const Value position = quotient + v;  // +0 for v makes a zero positive
  const Value top(layer.element.max);
  const Value clamped = at_most(at_least(position, Value(-layer.element.max)), top);
  const Value element = round_small(layer.element, clamped) + Value(layer.signed_zero ? -0.0f : 0.0f);
  return {quotient, position, clamped, element};
}

// d element / d position, of the unclamped.
template <typename Value>
KERNEL_FN Value scaled_slope(const ScaledLayer& layer, const ScaledRounded<Value>& rounded) {
  const Value one(1.0f);
  if (layer.slope == ElementSlope::kOne) return one;
  const Value size = magnitude(rounded.clamped);
  const Value flat = keep(greater(size, Value(0.0f)), one);
  if (layer.slope == ElementSlope::kNonzero) return flat;
  const auto below = greater(Value(power_of_two(layer.element.min_exponent)), size);
  return keep(below, flat) + drop(below, rounded.element / rounded.clamped);
}

// One element's part in the gradients, or a vector's.
template <typename Value>
struct ScaledParts {
  Value v;      // gradient of v; divided by the scale, that of the input
  Value range;  // term of ScaledSum
};

template <typename Value>
KERNEL_FN ScaledParts<Value> scaled_parts(const ScaledLayer& layer, const ScaledGroup& group,
                                          const ScaledRounded<Value>& rounded, Value gradient) {
  const auto inside = equal(rounded.clamped, rounded.position);
  const Value slope = scaled_slope(layer, rounded);
  return {gradient * (Value(group.scale) * keep(inside, slope)),
          gradient * (rounded.element - keep(inside, slope * rounded.quotient))};
}

// Writes the gradient of max_scale, or steps it.
KERNEL_FN void scaled_finish(const TunableGradients& out, int64_t index, float gradient) {
  if (out.max_scale) out.max_scale[index] = gradient;
}
KERNEL_FN void scaled_finish(const TunableStep& step, int64_t index, float gradient) {
  if (!step.max_scale) return;
  step.max_scale[index] =
      range_factor(step.max_scale[index] - sign_times(*step.range_rate, gradient), step.range_limit);
}

// Stores a group's scale as encodings hold it.
KERNEL_FN void scaled_store_code(const ScaledLayer& layer, const ScaledGroup& group, void* scale, int64_t index) {
  if (layer.rule == ScaleRule::kUnit) return;
  if (layer.rule == ScaleRule::kRatio) return store_element(layer.scale, scale, index, group.scale);
  auto* codes = static_cast<uint8_t*>(scale);
  if (layer.rule == ScaleRule::kNvfp4)
    codes[index] = small_code(e4m3(), group.shown);
  else if (layer.rule == ScaleRule::kUe5m3)
    codes[index] = small_code(ue5m3(), group.shown);
  else
    codes[index] = static_cast<uint8_t>(group.shown + 127.0f);
}

// The scale that scaled_store_code() stored.
KERNEL_FN float scaled_load_code(const ScaledLayer& layer, const ScaledCodes& input, int64_t index) {
  if (layer.rule == ScaleRule::kUnit) return 1.0f;
  if (layer.rule == ScaleRule::kRatio) return load_element(layer.scale, input.scale, index);
  const uint8_t code = static_cast<const uint8_t*>(input.scale)[index];
  if (layer.rule == ScaleRule::kNvfp4) return scaled_two_level(small_value(e4m3(), code), *input.global_scale).scale;
  if (layer.rule == ScaleRule::kUe5m3) return small_value(ue5m3(), code);
  return code == 255 ? bits_float(0x7fc00000u) : power_of_two(code - 127);
}

// ---- search ----

// Multiples of the maximum that are tried, 1 first: a power of two changes only with a factor of two.
KERNEL_FN int scaled_candidates(ScaleRule rule) {
  return rule == ScaleRule::kNvfp4 || rule == ScaleRule::kUe5m3 ? 103 : 3;
}
KERNEL_FN float scaled_candidate(ScaleRule rule, int index) {
  if (index == 0) return 1.0f;
  if (scaled_candidates(rule) == 3) return index == 1 ? 0.5f : 2.0f;
  return static_cast<float>(49 + index) / 100.0f;  // 0.5 to 1.51
}

// What the weights of a span's squared errors share. A channel that no input excited weighs the mean of the group's
// others; in a group with more of these than not, weights follow the magnitudes instead.
struct ScaledWeights {
  bool by_magnitude;
  float base, mean;
};

KERNEL_FN ScaledWeights scaled_weights(const ScaledLayer& layer, const void* input, const float* importance,
                                       const ScaledSpan& span) {
  ScaledWeights out{false, 0.0f, 1.0f};
  if (!importance) return out;
  float sum = 1e-5f * static_cast<float>(layer.span_cols - span.size), squares = 0.0f;
  int64_t zeros = 0;
  for (int64_t i = 0; i < span.size; ++i) {
    const float element = load_element(layer.input, input, span.begin + i);
    const float weight = importance[span.col + i];
    zeros += weight <= 1e-30f ? 1 : 0;
    sum = sum + weight;
    squares = squares + element * element;
  }
  out.by_magnitude = zeros > layer.span_cols / 2;
  out.base = layer.element.bits <= 3 ? 0.0f : sqrtf(squares / 32.0f);
  out.mean = sum / static_cast<float>(layer.span_cols - zeros);
  return out;
}

// The weight of an element; `importance` is its channel's, or 1 where none is given.
KERNEL_FN float scaled_weight(const ScaledWeights& weights, float importance, float element) {
  if (weights.by_magnitude) return magnitude(element) + weights.base;
  return importance <= 1e-30f ? weights.mean : importance;
}

}  // namespace roundhouse::kernels
