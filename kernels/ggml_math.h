// SPDX-License-Identifier: Apache-2.0
// The formulas of quantization to the blocks of ggml, once for CPU lanes, vectors and CUDA threads. They follow
// auto-round 0.16 (data_type/gguf.py) operation by operation, but for what GgmlLayer::reference says.
#pragma once

#include "affine_math.h"
#include "ggml.h"

namespace roundhouse::kernels {

// 1 / x, or 0 for an x that is as good as zero.
template <typename Value>
KERNEL_FN Value safe_reciprocal(Value x) {
  return drop(greater(Value(1e-30f), magnitude(x)), Value(1.0f) / x);
}

KERNEL_FN float ggml_levels(const GgmlLayer& layer) { return static_cast<float>(1 << layer.bits); }

// The integer zero point of auto-round's int_asym_float_zp is a fraction: codes of q4_1 and q5_1 are then no integers.
KERNEL_FN bool fractional_codes(const GgmlLayer& layer) {
  return layer.reference && !layer.symmetric && layer.super_bits == 0;
}

// A group's scale and minimum before its block has its say; of Value groups.
template <typename Value>
struct GgmlGroups {
  Value low, high;  // the range after min_scale and max_scale
  Value scale, minimum;
  decltype(equal(Value(), Value())) held;  // by the least scale, so no gradients pass to it
};
using GgmlGroup = GgmlGroups<float>;

template <typename Value>
KERNEL_FN GgmlGroups<Value> ggml_group(const GgmlLayer& layer, Value low, Value high, Value min_scale,
                                       Value max_scale) {
  GgmlGroups<Value> group;
  group.low = low * range_factor(min_scale, 1);
  group.high = high * range_factor(max_scale, 1);
  group.minimum = -group.low;
  const float levels = ggml_levels(layer);
  if (layer.symmetric) {
    const Value extreme = max_of(group.high, -group.low);
    group.scale = layer.positive ? extreme / Value(levels / 2 - 1)
                                 : select(greater(-group.low, group.high), extreme, -extreme) / Value(levels / 2);
  } else {
    group.scale = (group.high - group.low) / Value(levels - 1);
  }
  if (layer.reference) group.scale = round_to(layer.scale, group.scale);
  const Value least(round_to(layer.scale, layer.scale_threshold));
  group.held = greater(layer.symmetric ? group.scale : least, group.scale);  // symmetric: never
  group.scale = select(group.held, least, group.scale);
  return group;
}

KERNEL_FN GgmlGroup ggml_group(const GgmlLayer& layer, const GgmlInput& input, int64_t index) {
  return ggml_group(layer, input.low[index], input.high[index], input.min_scale ? input.min_scale[index] : 1.0f,
                    input.max_scale ? input.max_scale[index] : 1.0f);
}

// What the elements of a block see that is one group.
template <typename Value>
struct GgmlSingle {
  Value scale, minimum;  // d and dmin
};

template <typename Value>
KERNEL_FN GgmlSingle<Value> ggml_single(const GgmlLayer& layer, const GgmlGroups<Value>& group) {
  const Value minimum = layer.symmetric ? Value(0.0f) : group.minimum;
  if (layer.reference) return {group.scale, minimum};
  return {round_to<Element::kF16>(group.scale), round_to<Element::kF16>(minimum)};
}

// A block of one group.
KERNEL_FN void ggml_fill_single(float scale, float minimum, GgmlBlock& out) {
  out.d = out.scale[0] = scale;
  out.dmin = out.minimum[0] = minimum;
  out.scale_code[0] = out.minimum_code[0] = 1.0f;
}

// How a block's scales, or its minima, become integers times one float.
struct GgmlSuper {
  int extreme;    // the group that gets the largest integer: the first of largest ggml_super_size()
  float unit;     // d or dmin, float32
  float inverse;  // 1 / unit
  float levels;   // the largest magnitude of an integer
};

KERNEL_FN float ggml_super_size(const GgmlLayer& layer, float x) { return layer.symmetric && x < 0 ? -x : x; }

// `most` is the extreme group's.
KERNEL_FN GgmlSuper ggml_super(const GgmlLayer& layer, int extreme, float most) {
  GgmlSuper super;
  super.extreme = extreme;
  if (layer.symmetric) {
    super.levels = static_cast<float>(1 << (layer.super_bits - 1));
    super.unit = most / -super.levels;
    super.inverse = safe_reciprocal(super.unit);
  } else {
    super.levels = static_cast<float>((1 << layer.super_bits) - 1);
    super.unit = most / super.levels;
    super.inverse = super.levels * safe_reciprocal(most);
  }
  return super;
}

KERNEL_FN GgmlSuper ggml_super(const GgmlLayer& layer, const float* x) {
  int extreme = 0;
  float most = ggml_super_size(layer, x[0]);
  for (int i = 1; i < ggml_block_groups(layer); ++i) {
    const float size = ggml_super_size(layer, x[i]);
    if (size > most) extreme = i;
    most = max_of(size, most);
  }
  return ggml_super(layer, extreme, x[extreme]);
}

KERNEL_FN float ggml_super_code(const GgmlLayer& layer, const GgmlSuper& super, float x) {
  const float code = round_even(x * super.inverse) + 0.0f;  // never -0, as in the reference
  if (!layer.symmetric) return min_of(code, super.levels);
  return min_of(max_of(code, -super.levels), super.levels - 1);
}

// The integers of a block's groups; gives their unit.
KERNEL_FN float ggml_super_codes(const GgmlLayer& layer, const float* x, float* codes) {
  const GgmlSuper super = ggml_super(layer, x);
  for (int i = 0; i < ggml_block_groups(layer); ++i) codes[i] = ggml_super_code(layer, super, x[i]);
  return super.unit;
}

// d or dmin, which the block holds as float16.
KERNEL_FN float ggml_unit(const GgmlLayer& layer, float unit) {
  return layer.reference ? unit : round_to<Element::kF16>(unit);
}

// Integers times d and dmin.
KERNEL_FN void ggml_finish_block(const GgmlLayer& layer, GgmlBlock& out) {
  out.d = ggml_unit(layer, out.d);
  out.dmin = ggml_unit(layer, out.dmin);
  for (int i = 0; i < ggml_block_groups(layer); ++i) {
    out.scale[i] = out.scale_code[i] * out.d;
    out.minimum[i] = out.minimum_code[i] * out.dmin;
  }
}

KERNEL_FN void ggml_searched_block(const GgmlLayer& layer, const GgmlInput& input, int64_t block, GgmlBlock& out) {
  const int groups = ggml_block_groups(layer);
  out.d = input.d[block];
  out.dmin = input.dmin[block];
  for (int i = 0; i < groups; ++i) {
    out.scale_code[i] = input.scale_code[block * groups + i];
    out.minimum_code[i] = input.minimum_code[block * groups + i];
  }
  ggml_finish_block(layer, out);
}

// In auto-round's asymmetric arithmetic scale, d and dmin are at least the least scale; of a block's groups.
KERNEL_FN bool ggml_holds(const GgmlLayer& layer) {
  return layer.reference && !layer.symmetric && layer.super_bits != 0;
}

// The block from its groups.
KERNEL_FN void ggml_ranged_block(const GgmlLayer& layer, const GgmlGroup* group, GgmlBlock& out) {
  const int groups = ggml_block_groups(layer);
  if (layer.super_bits == 0) {
    const auto single = ggml_single(layer, group[0]);
    return ggml_fill_single(single.scale, single.minimum, out);
  }
  float x[kMostGroups] = {};
  for (int i = 0; i < groups; ++i) x[i] = group[i].scale;
  out.d = ggml_super_codes(layer, x, out.scale_code);
  for (int i = 0; i < groups; ++i) x[i] = layer.symmetric ? 0.0f : group[i].minimum;
  out.dmin = ggml_super_codes(layer, x, out.minimum_code);
  ggml_finish_block(layer, out);
  if (!ggml_holds(layer)) return;
  for (int i = 0; i < groups; ++i) out.scale[i] = max_of(out.scale[i], layer.scale_threshold);
  out.d = max_of(out.d, layer.scale_threshold);
  out.dmin = max_of(out.dmin, layer.scale_threshold);
}

KERNEL_FN void ggml_block(const GgmlLayer& layer, const GgmlInput& input, int64_t block, GgmlBlock& out) {
  if (layer.searched) return ggml_searched_block(layer, input, block, out);
  GgmlGroup group[kMostGroups] = {};
  const int groups = ggml_block_groups(layer);
  for (int i = 0; i < groups; ++i) group[i] = ggml_group(layer, input, block * groups + i);
  ggml_ranged_block(layer, group, out);
}

// What all elements of a group share.
struct GgmlRounding {
  float scale, inverse;
  float shift;    // added to a weight before it is divided
  float zero;     // added to the rounded quotient
  float top;      // codes are clamped to [0, top]
  float offset;   // taken from a code before it is multiplied
  float minimum;  // taken from the product
  bool symmetric;
};

KERNEL_FN GgmlRounding ggml_rounding(const GgmlLayer& layer, float scale, float minimum) {
  const float levels = ggml_levels(layer);
  GgmlRounding out{scale, safe_reciprocal(scale), 0.0f, 0.0f, levels - 1, 0.0f, 0.0f, layer.symmetric};
  if (layer.symmetric)
    out.zero = out.offset = levels / 2;
  else if (fractional_codes(layer))
    out.zero = out.offset = minimum / scale;
  else
    out.shift = out.minimum = minimum;
  return out;
}

// One element's rounding, or a vector's. Value is float or a vector of kLanes floats with the operations of floats.h.
template <typename Value>
struct GgmlRounded {
  Value quotient;  // before v
  Value shifted;   // rounded quotient + v, plus the zero point
  Value code;      // clamped
};

template <typename Value>
KERNEL_FN Value ggml_quotient(const GgmlRounding& group, Value w) {
  if (group.symmetric) return w * Value(group.inverse);
  return (w + Value(group.shift)) / Value(group.scale);
}

// `position` is the quotient plus v.
template <typename Value>
KERNEL_FN GgmlRounded<Value> ggml_round(const GgmlRounding& group, Value quotient, Value position) {
  const Value shifted = round_even(position) + Value(group.zero);
  return {quotient, shifted, at_most(at_least(shifted, Value(0.0f)), Value(group.top))};
}

template <typename Value>
KERNEL_FN Value ggml_value(const GgmlRounding& group, Value code) {
  const Value product = Value(group.scale) * (code - Value(group.offset));
  return group.symmetric ? product : product - Value(group.minimum);  // a product of -0 stays so
}

// A group's.
KERNEL_FN void ggml_store_parameters(const GgmlLayer& layer, float scale, float minimum, int64_t group,
                                     const GgmlOutput& output) {
  if (output.scale) store_element(layer.super_bits == 0 ? layer.scale : Element::kF32, output.scale, group, scale);
  if (output.minimum) output.minimum[group] = minimum;
  if (output.zero_point) output.zero_point[group] = ggml_rounding(layer, scale, minimum).zero;
}
KERNEL_FN void ggml_store_parameters(const GgmlLayer& layer, const GgmlBlock& block, int64_t index,
                                     const GgmlOutput& output) {
  const int groups = ggml_block_groups(layer);
  if (output.d) output.d[index] = block.d;
  if (output.dmin) output.dmin[index] = block.dmin;
  for (int g = 0; g < groups; ++g)
    ggml_store_parameters(layer, block.scale[g], block.minimum[g], index * groups + g, output);
}

// One element's part in the gradients, or a vector's. Where clamped codes stand still, d(value)/d(scale) is the code
// alone, and the minimum counts in full.
template <typename Value>
KERNEL_FN AffineParts<Value> ggml_parts(const GgmlRounding& group, const GgmlRounded<Value>& rounded, Value gradient) {
  const auto inside = equal(rounded.code, rounded.shifted);
  return {keep(inside, gradient * Value(group.scale)),
          gradient * ((rounded.code - Value(group.offset)) - keep(inside, rounded.quotient)), drop(inside, gradient)};
}

// Back through a super-block's integers, of one group: from the gradient of its product with `unit` to that of x.
// Rounding counts as the identity; the extreme also gets the unit's gradient, through ggml_extreme_gradient().
struct GgmlSuperParts {
  float unit;  // term of the unit's gradient, a sum in the order of groups
  float x;
};

KERNEL_FN GgmlSuperParts ggml_super_parts(const GgmlLayer& layer, const GgmlSuper& super, float x, float gradient) {
  const float through = super.unit * super.inverse;  // 1, or 0 for a block of zeros
  const float code = ggml_super_code(layer, super, x), position = x * super.inverse;
  const bool inside = code == round_even(position);
  return {gradient * (code - keep(inside, position)), keep(inside, gradient * through)};
}
KERNEL_FN float ggml_extreme_gradient(const GgmlLayer& layer, const GgmlSuper& super, float unit) {
  return unit / (layer.symmetric ? -super.levels : super.levels);
}

// Of all groups, in place.
KERNEL_FN void ggml_super_gradients(const GgmlLayer& layer, const float* x, float* gradients) {
  const GgmlSuper super = ggml_super(layer, x);
  float unit = 0.0f;
  for (int i = 0; i < ggml_block_groups(layer); ++i) {
    const GgmlSuperParts parts = ggml_super_parts(layer, super, x[i], gradients[i]);
    unit += parts.unit;
    gradients[i] = parts.x;
  }
  gradients[super.extreme] += ggml_extreme_gradient(layer, super, unit);
}

// The gradients of a group's min_scale and max_scale from those of its scale and minimum. `low` and `high` are the
// range before min_scale and max_scale.
template <typename Value>
KERNEL_FN RangeGradients<Value> ggml_range_gradients(const GgmlLayer& layer, const GgmlGroups<Value>& group, Value low,
                                                     Value high, Value scale, Value minimum) {
  const float levels = ggml_levels(layer);
  if (!layer.symmetric) {
    const Value range = drop(group.held, scale / Value(levels - 1));
    return {-(range + minimum) * low, range * high};
  }
  const Value two(2.0f), largest = scale / Value(layer.positive ? levels / 2 - 1 : levels / 2);
  const Value by_low = largest * -low, by_high = (layer.positive ? largest : -largest) * high;
  const auto low_wins = greater(-group.low, group.high), high_wins = greater(group.high, -group.low);
  // A tie: half to each side, as torch.maximum does; the sign of the scale is that of the high side.
  return {select(low_wins, by_low, drop(high_wins, (layer.positive ? by_low : -by_low) / two)),
          drop(low_wins, select(high_wins, by_high, by_high / two))};
}

// The gradient of the scale of a block that is one group, from the sums of its elements.
template <typename Value>
KERNEL_FN Value ggml_scale_gradient(const GgmlLayer& layer, const GgmlGroups<Value>& group, Value direct,
                                    Value clipped) {
  return fractional_codes(layer) ? direct + clipped * group.minimum / group.scale : direct;
}

// Writes the gradients of min_scale and max_scale of a block, or steps them, from the sums over each group's elements.
template <typename Finish>
KERNEL_FN void ggml_finish_ranges(const GgmlLayer& layer, const GgmlInput& input, int64_t block, const AffineSums* sums,
                                  const Finish& finish) {
  if (!finish.min_scale && !finish.max_scale) return;
  const int groups = ggml_block_groups(layer);
  GgmlGroup group[kMostGroups] = {};
  GgmlBlock parameters;
  float scale[kMostGroups] = {}, minimum[kMostGroups] = {}, of_scale[kMostGroups] = {}, of_minimum[kMostGroups] = {};
  for (int i = 0; i < groups; ++i) group[i] = ggml_group(layer, input, block * groups + i);
  ggml_ranged_block(layer, group, parameters);
  for (int i = 0; i < groups; ++i) {
    scale[i] = group[i].scale;
    minimum[i] = group[i].minimum;
    of_scale[i] = ggml_scale_gradient(layer, group[i], sums[i].direct, sums[i].clipped);
    of_minimum[i] = -sums[i].clipped;
    if (ggml_holds(layer) && !(parameters.scale[i] > layer.scale_threshold)) of_scale[i] = 0.0f;
  }
  if (layer.super_bits != 0) {
    ggml_super_gradients(layer, scale, of_scale);
    if (!layer.symmetric) ggml_super_gradients(layer, minimum, of_minimum);
  }
  for (int i = 0; i < groups; ++i) {
    const int64_t index = block * groups + i;
    affine_finish(
        finish, index,
        ggml_range_gradients(layer, group[i], input.low[index], input.high[index], of_scale[i], of_minimum[i]));
  }
}

}  // namespace roundhouse::kernels
