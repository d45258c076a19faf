// SPDX-License-Identifier: Apache-2.0
// The kernels over Lanes. Included once by each target's source, after its lanes header; everything is local to it.
#pragma once

#include "kernels/affine_math.h"
#include "kernels/cpu/affine.h"
#include "kernels/cpu/range_span.h"

namespace roundhouse::kernels {

static void range(const AffineLayer& layer, const void* weight, float* low, float* high, int64_t begin, int64_t end) {
  with_element(layer.weight, [&](auto w_tag) {
    constexpr Element w = w_tag.value;
    for_groups(begin, end, [&](int64_t first, int64_t count) {
      SpanRanges<w> ranges(count);
      AffineSpan span = affine_span(layer, first);
      for (int64_t k = 0; k < count; ++k, affine_advance(layer, first + k, span))
        ranges.measure(k, elements<w>(weight) + span.begin, span.size);
      ranges.store(low + first, high + first);
    });
  });
}

// Rounds a span and calls use(i, rounded, lanes) for each kLanes elements.
template <Element weight, typename Use>
KERNEL_FN void round_span(const AffineLayer& layer, const AffineInput& input, const AffineGroup& group,
                          const AffineSpan& span, Use&& use) {
  const Storage<weight>* w = elements<weight>(input.weight) + span.begin;
  const float* v = input.v ? input.v + span.v : nullptr;
  const Lanes scale(group.scale);
  for_lanes(span.size, [&](int64_t i, auto lanes) {
    const Lanes quotient = affine_quotient<weight>(layer, load<weight>(w + i, lanes), scale);
    const Lanes position = v ? quotient + load<Element::kF32>(v + i, lanes) : quotient;
    use(i, affine_round(group, quotient, position), lanes);
  });
}

// Once in each target, for the sake of the compiler's time.
static __attribute__((noinline)) AffineGroups<Lanes> groups_of_spans(const AffineLayer& layer, const AffineInput& input,
                                                                     int64_t first, int64_t count) {
  const auto of_groups = [&](const float* from) {
    if (!from) return Lanes(1.0f);
    return layer.whole_tensor ? Lanes(from[0]) : load_groups(from + first, count);
  };
  return affine_group(layer, of_groups(input.low), of_groups(input.high), of_groups(input.min_scale),
                      of_groups(input.max_scale));
}

// body(span, group, k) for spans [begin, end), k the span's place among kLanes of them; then finish(first, count,
// groups) for these.
template <typename Body, typename Finish>
KERNEL_FN void each_span(const AffineLayer& layer, const AffineInput& input, int64_t begin, int64_t end, Body&& body,
                         Finish&& finish) {
  for_groups(begin, end, [&](int64_t first, int64_t count) {
    const AffineGroups<Lanes> groups = groups_of_spans(layer, input, first, count);
    float scale[kLanes], zero[kLanes], minus_zero[kLanes];
    store_lanes<Element::kF32>(scale, groups.scale);
    store_lanes<Element::kF32>(zero, groups.zero);
    store_lanes<Element::kF32>(minus_zero, groups.minus_zero);
    AffineSpan span = affine_span(layer, first);
    for (int64_t k = 0; k < count; ++k, affine_advance(layer, first + k, span)) {
      AffineGroup group{};
      group.scale = scale[k];
      group.zero = zero[k];
      group.minus_zero = minus_zero[k];
      group.bottom = groups.bottom;
      group.top = groups.top;
      body(span, group, k);
    }
    finish(first, count, groups);
  });
}

template <typename Body>
KERNEL_FN void each_span(const AffineLayer& layer, const AffineInput& input, int64_t begin, int64_t end, Body&& body) {
  each_span(
      layer, input, begin, end, [&](const AffineSpan& span, const AffineGroup& group, int64_t) { body(span, group); },
      [](int64_t, int64_t, const AffineGroups<Lanes>&) {});
}

static void forward(const AffineLayer& layer, const AffineInput& input, const AffineOutput& output, int64_t begin,
                    int64_t end) {
  with_element(layer.weight, [&](auto w_tag) {
    constexpr Element w = w_tag.value;
    with_element(output.qdq_type, [&](auto qdq_type) {
      each_span(layer, input, begin, end, [&](const AffineSpan& span, const AffineGroup& group) {
        if (output.qdq) {
          round_span<w>(layer, input, group, span, [&](int64_t j, const auto& rounded, auto lanes) {
            const Lanes value = times_outer<w>(input.outer_scale, affine_value(group, rounded.code));
            store_rounded<w>(qdq_type, output.qdq, span.begin + j, value, lanes);
          });
        }
        if (output.outer_scale && span.begin == 0) *output.outer_scale = *input.outer_scale;
        if (layer.whole_tensor && span.begin > 0) return;
        if (output.scale)
          store_element(layer.scale, output.scale, span.group,
                        group.scale * (input.outer_scale ? *input.outer_scale : 1));
        if (output.zero_point) output.zero_point[span.group] = group.zero;
      });
    });
  });
}

static void encode(const AffineLayer& layer, const AffineInput& input, const AffineCodes& output, int64_t begin,
                   int64_t end) {
  with_element(layer.weight, [&](auto w_tag) {
    constexpr Element w = w_tag.value;
    each_span(layer, input, begin, end, [&](const AffineSpan& span, const AffineGroup& group) {
      uint8_t* codes = output.codes + span.begin;
      round_span<w>(layer, input, group, span, [&](int64_t j, const auto& rounded, auto lanes) {
        store(codes + j, rounded.code - Lanes(group.bottom), lanes);
      });
      if (output.outer_scale && span.begin == 0) *output.outer_scale = *input.outer_scale;
      if (layer.whole_tensor && span.begin > 0) return;
      store_element(layer.scale, output.scale, span.group, group.scale);
      if (output.zero_point) output.zero_point[span.group] = static_cast<uint8_t>(group.zero);
    });
  });
}

static void decode(const AffineLayer& layer, const AffineCodes& input, void* output, Element type, int64_t begin,
                   int64_t end) {
  const float middle = static_cast<float>(1 << (layer.bits - 1));
  with_element(type, [&](auto o_tag) {
    constexpr Element o = o_tag.value;
    for (int64_t i = begin; i < end; ++i) {
      const AffineSpan span = affine_span(layer, i);
      const Lanes scale(load_element(layer.scale, input.scale, span.group));
      const Lanes zero(input.zero_point ? static_cast<float>(input.zero_point[span.group]) : middle);
      const uint8_t* codes = input.codes + span.begin;
      for_lanes(span.size, [&](int64_t j, auto lanes) {
        const Lanes value = times_outer<o>(input.outer_scale, scale * (load(codes + j, lanes) - zero));
        store<o>(elements<o>(output) + span.begin + j, value, lanes);
      });
    }
  });
}

namespace {

struct SpanSums {
  Lanes direct, clipped;
};

}  // namespace

template <Element weight, typename Type, typename Finish>
KERNEL_FN SpanSums gradient_span(const AffineLayer& layer, const AffineInput& input, const AffineGroup& group,
                                 const AffineSpan& span, Type type, const void* gradient, const Finish& finish) {
  Lanes direct(0.0f), clipped(0.0f);
  round_span<weight>(layer, input, group, span, [&](int64_t i, const auto& rounded, auto lanes) {
    const Lanes at_output = load_at(type, gradient, span.begin + i, lanes);
    const auto parts = affine_parts(group, rounded, gradient_times_outer<weight>(input.outer_scale, at_output));
    direct = direct + parts.direct;
    clipped = clipped + parts.clipped;
    finish_v(finish, span.v + i, parts.v, lanes);
  });
  return {direct, clipped};
}

// The range gradients of kLanes groups, or the step of their ranges, from the sums of their elements.
template <typename Finish>
static __attribute__((noinline)) void finish_groups(const AffineLayer& layer, const AffineInput& input,
                                                    const AffineGroups<Lanes>& groups, Lanes direct, Lanes clipped,
                                                    const Finish& finish, AffineSums* sums, int64_t first,
                                                    int64_t count) {
  if (layer.whole_tensor) {
    float of_direct[kLanes], of_clipped[kLanes];
    store_lanes<Element::kF32>(of_direct, direct);
    store_lanes<Element::kF32>(of_clipped, clipped);
    for (int64_t k = 0; k < count; ++k) sums[first + k] = {of_direct[k], of_clipped[k]};
    return;
  }
  const auto at = [&](float* x) { return x ? x + first : nullptr; };
  const auto slopes = affine_slopes(layer, groups, direct, clipped);
  finish_range(finish, at(finish.min_scale), slopes.low * load_groups(input.low + first, count), count);
  finish_range(finish, at(finish.max_scale), slopes.high * load_groups(input.high + first, count), count);
}

// Backward or sign step, as `Finish` is AffineGradients or AffineStep.
template <typename Finish>
static void gradients(const AffineLayer& layer, const AffineInput& input, const AffineGradient& gradient,
                      const Finish& finish, AffineSums* sums, int64_t begin, int64_t end) {
  with_element(layer.weight, [&](auto w_tag) {
    constexpr Element w = w_tag.value;
    with_side_element(gradient.type, [&](auto type) {
      Lanes direct[kLanes], clipped[kLanes];
      for (int i = 0; i < kLanes; ++i) direct[i] = clipped[i] = Lanes(0.0f);
      each_span(
          layer, input, begin, end,
          [&](const AffineSpan& span, const AffineGroup& group, int64_t k) {
            const SpanSums total = gradient_span<w>(layer, input, group, span, type, gradient.qdq, finish);
            finish_padding(finish, span.v + span.size, span.v + layer.span_cols);
            direct[k] = total.direct;
            clipped[k] = total.clipped;
          },
          [&](int64_t first, int64_t count, const AffineGroups<Lanes>& groups) {
            finish_groups(layer, input, groups, sum_each(direct), sum_each(clipped), finish, sums, first, count);
          });
    });
  });
}

// Where in a span its first element lies that is x, for add_slopes().
template <Element e>
KERNEL_FN int32_t first_of(const AffineSpan& span, const Storage<e>* w, float x) {
  for (int64_t i = 0; i < span.size; ++i)
    if (to_float<e>(w[span.begin + i]) == x) return static_cast<int32_t>(i);
  return INT32_MAX;
}

static void input_gradient(const AffineLayer& layer, const AffineInput& input, const AffineGradient& gradient,
                           void* output, int64_t begin, int64_t end) {
  with_element(layer.weight, [&](auto w_tag) {
    constexpr Element w = w_tag.value;
    with_side_element(gradient.type, [&](auto type) {
      for (int64_t i = begin; i < end; ++i) {
        const AffineSpan span = affine_span(layer, i);
        const AffineGroup group = affine_group(layer, input, span.group);
        const auto sums = gradient_span<w>(layer, input, group, span, type, gradient.qdq, AffineGradients{});
        round_span<w>(layer, input, group, span, [&](int64_t j, const auto& rounded, auto lanes) {
          const Lanes at_output = load_at(type, gradient.qdq, span.begin + j, lanes);
          store<w>(elements<w>(output) + span.begin + j, keep(equal(rounded.code, rounded.shifted), at_output), lanes);
        });
        add_slopes<w>(span, affine_slopes(layer, group, {sum_lanes(sums.direct), sum_lanes(sums.clipped)}),
                      first_of<w>(span, elements<w>(input.weight), input.low[span.group]),
                      first_of<w>(span, elements<w>(input.weight), input.high[span.group]), output);
      }
    });
  });
}

}  // namespace roundhouse::kernels
