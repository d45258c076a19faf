// SPDX-License-Identifier: Apache-2.0
// The kernels over Lanes. Included once by each target's source, after its lanes header; everything is local to it.
#pragma once

#include "kernels/cpu/for_lanes.h"
#include "kernels/cpu/scaled.h"
#include "kernels/scaled_math.h"

namespace roundhouse::kernels {

static void maximum(const ScaledLayer& layer, const void* input, float* maximum, int64_t begin, int64_t end) {
  with_element(layer.input, [&](auto w_tag) {
    constexpr Element w = w_tag.value;
    for_groups(begin, end, [&](int64_t first, int64_t count) {
      Lanes highest[kLanes], finite[kLanes];
      for (int64_t k = count; k < kLanes; ++k) highest[k] = finite[k] = Lanes(0.0f);
      ScaledSpan span = scaled_span(layer, first);
      for (int64_t k = 0; k < count; ++k, scaled_advance(layer, first + k, span)) {
        const Storage<w>* x = elements<w>(input) + span.begin;
        Lanes of_span(0.0f), check(0.0f);
        for_lanes(span.size, [&](int64_t j, auto lanes) {
          const Lanes size = magnitude(load<w>(x + j, lanes));
          of_span = max_of(size, of_span);
          check = check + (size - size);  // NaN from the first NaN or infinity on
        });
        highest[k] = of_span;
        finite[k] = check;
      }
      store_groups(maximum + first, sum_each(finite) + max_each(highest), count);
    });
  });
}

// The groups of kLanes spans.
struct SpanGroups {
  float shown[kLanes], quotient[kLanes], scale[kLanes], slope[kLanes];

  KERNEL_LANES ScaledGroup operator[](int64_t k) const { return {shown[k], quotient[k], scale[k], slope[k]}; }
};

// Once in each target, for the sake of the compiler's time.
static __attribute__((noinline)) void groups_of_spans(const ScaledLayer& layer, const ScaledInput& input, int64_t first,
                                                      int64_t count, SpanGroups& out) {
  const auto of_groups = [&](const float* from) {
    if (layer.group_rows == 1) return load_groups(from + first, count);
    float x[kLanes] = {};
    for (int64_t k = 0; k < count; ++k) x[k] = from[scaled_span(layer, first + k).group];
    return load_lanes<Element::kF32>(x);
  };
  const ScaledGroups<Lanes> groups =
      scaled_group(layer, layer.rule == ScaleRule::kUnit ? Lanes(0.0f) : of_groups(input.maximum),
                   input.max_scale ? of_groups(input.max_scale) : Lanes(1.0f), input.largest ? *input.largest : 0.0f);
  store_lanes<Element::kF32>(out.shown, groups.shown);
  store_lanes<Element::kF32>(out.quotient, groups.quotient);
  store_lanes<Element::kF32>(out.scale, groups.scale);
  store_lanes<Element::kF32>(out.slope, groups.slope);
}

// Rounds a span and calls use(i, rounded, lanes) for each kLanes elements.
template <Element type, typename Use>
KERNEL_FN void round_span(const ScaledLayer& layer, const ScaledInput& input, const ScaledGroup& group,
                          const ScaledSpan& span, Use&& use) {
  const Storage<type>* x = elements<type>(input.input) + span.begin;
  const float* v = input.v ? input.v + span.v : nullptr;
  for_lanes(span.size, [&](int64_t i, auto lanes) {
    const Lanes quotient = scaled_quotient<type>(layer, group, load<type>(x + i, lanes));
    use(i, scaled_round(layer, quotient, v ? load<Element::kF32>(v + i, lanes) : Lanes(0.0f)), lanes);
  });
}

// body(span, group, k) for spans [begin, end), k its place among kLanes of them; then finish(first, count, groups) for
// these.
template <typename Body, typename Finish>
KERNEL_FN void each_span(const ScaledLayer& layer, const ScaledInput& input, int64_t begin, int64_t end, Body&& body,
                         Finish&& finish) {
  for_groups(begin, end, [&](int64_t first, int64_t count) {
    SpanGroups groups;
    groups_of_spans(layer, input, first, count, groups);
    ScaledSpan span = scaled_span(layer, first);
    for (int64_t k = 0; k < count; ++k, scaled_advance(layer, first + k, span)) body(span, groups[k], k);
    finish(first, count, groups);
  });
}
template <typename Body>
KERNEL_FN void each_span(const ScaledLayer& layer, const ScaledInput& input, int64_t begin, int64_t end, Body&& body) {
  each_span(
      layer, input, begin, end, [&](const ScaledSpan& span, const ScaledGroup& group, int64_t) { body(span, group); },
      [](int64_t, int64_t, const SpanGroups&) {});
}

static void search(const ScaledLayer& layer, const ScaledInput& input, const ScaledSearch& search, int64_t begin,
                   int64_t end) {
  with_element(layer.input, [&](auto w_tag) {
    constexpr Element w = w_tag.value;
    for (int64_t i = begin; i < end; ++i) {
      const ScaledSpan span = scaled_span(layer, i);
      const Storage<w>* x = elements<w>(input.input) + span.begin;
      const ScaledWeights shared = scaled_weights(layer, input.input, search.importance, span);
      float weights[kMaxSearchSpan];
      for (int64_t j = 0; j < span.size; ++j)
        weights[j] =
            scaled_weight(shared, search.importance ? search.importance[span.col + j] : 1.0f, to_float<w>(x[j]));
      const float maximum = search.maximum[i];
      float least = 0.0f;
      for (int k = 0; k < scaled_candidates(layer.rule); ++k) {
        const float candidate = maximum * scaled_candidate(layer.rule, k);
        const ScaledGroup group = scaled_group(layer, candidate, 1.0f, input.largest ? *input.largest : 0.0f);
        Lanes loss(0.0f);
        round_span<w>(layer, input, group, span, [&](int64_t j, const auto& rounded, auto lanes) {
          const Lanes error = rounded.element * Lanes(group.scale) - load<w>(x + j, lanes);
          loss = loss + error * error * load<Element::kF32>(weights + j, lanes);
        });
        const float total = sum_lanes(loss);
        if (k > 0 && !(total < least)) continue;
        least = total;
        search.maximum[i] = candidate;
      }
    }
  });
}

static void forward(const ScaledLayer& layer, const ScaledInput& input, const ScaledOutput& output, int64_t begin,
                    int64_t end) {
  with_element(layer.input, [&](auto w_tag) {
    constexpr Element w = w_tag.value;
    with_element(output.qdq_type, [&](auto qdq_type) {
      each_span(layer, input, begin, end, [&](const ScaledSpan& span, const ScaledGroup& group) {
        round_span<w>(layer, input, group, span, [&](int64_t j, const auto& rounded, auto lanes) {
          const Lanes value = rounded.element * Lanes(group.scale);
          store_rounded<w>(qdq_type, output.qdq, span.begin + j, value, lanes);
        });
        const bool shows = output.scale && span.first && (layer.rule != ScaleRule::kUnit || span.begin == 0);
        if (shows) store_element(output.scale_type, output.scale, span.group, group.shown);
      });
    });
  });
}

static void encode(const ScaledLayer& layer, const ScaledInput& input, const ScaledCodes& output, int64_t begin,
                   int64_t end) {
  with_element(layer.input, [&](auto w_tag) {
    constexpr Element w = w_tag.value;
    each_span(layer, input, begin, end, [&](const ScaledSpan& span, const ScaledGroup& group) {
      round_span<w>(layer, input, group, span, [&](int64_t j, const auto& rounded, auto lanes) {
        store(output.codes + span.begin + j, small_code_number(layer.element, rounded.element), lanes);
      });
      if (span.first) scaled_store_code(layer, group, output.scale, span.group);
      if (span.begin == 0 && output.global_scale) *output.global_scale = scaled_global(layer, *input.largest);
    });
  });
}

static void decode(const ScaledLayer& layer, const ScaledCodes& input, void* output, Element type, int64_t begin,
                   int64_t end) {
  float values[256];
  for (int code = 0; code < 256; ++code) values[code] = small_value(layer.element, static_cast<uint8_t>(code));
  for (int64_t i = begin; i < end; ++i) {
    const ScaledSpan span = scaled_span(layer, i);
    const float scale = scaled_load_code(layer, input, span.group);
    for (int64_t j = span.begin; j < span.begin + span.size; ++j)
      store_element(type, output, j, values[input.codes[j]] * scale);
  }
}

static void input_gradient(const ScaledLayer& layer, const ScaledInput& input, const OutputGradient& gradient,
                           void* output, Element type, int64_t begin, int64_t end) {
  with_element(layer.input, [&](auto w_tag) {
    constexpr Element w = w_tag.value;
    with_side_element(gradient.type, [&](auto gradient_type) {
      with_side_element(type, [&](auto output_type) {
        each_span(layer, input, begin, end, [&](const ScaledSpan& span, ScaledGroup group) {
          group.scale = 1.0f;  // the gradient of v has this factor, the derivative of the quotient its inverse
          round_span<w>(layer, input, group, span, [&](int64_t j, const auto& rounded, auto lanes) {
            const Lanes at_output = load_at(gradient_type, gradient.qdq, span.begin + j, lanes);
            store_at(output_type, output, span.begin + j, scaled_parts(layer, group, rounded, at_output).v, lanes);
          });
        });
      });
    });
  });
}

// Backward or sign step, as `Finish` is TunableGradients or TunableStep.
template <typename Finish>
static void gradients(const ScaledLayer& layer, const ScaledInput& input, const OutputGradient& gradient,
                      const Finish& finish, ScaledSum* sums, int64_t begin, int64_t end) {
  with_element(layer.input, [&](auto w_tag) {
    constexpr Element w = w_tag.value;
    with_side_element(gradient.type, [&](auto type) {
      Lanes ranges[kLanes];
      for (Lanes& range : ranges) range = Lanes(0.0f);
      each_span(
          layer, input, begin, end,
          [&](const ScaledSpan& span, const ScaledGroup& group, int64_t k) {
            Lanes range(0.0f);
            round_span<w>(layer, input, group, span, [&](int64_t j, const auto& rounded, auto lanes) {
              const auto parts =
                  scaled_parts(layer, group, rounded, load_at(type, gradient.qdq, span.begin + j, lanes));
              range = range + parts.range;
              finish_v(finish, span.v + j, parts.v, lanes);
            });
            finish_padding(finish, span.v + span.size, span.v_end);
            ranges[k] = range;
          },
          [&](int64_t first, int64_t count, const SpanGroups& groups) {
            const Lanes sum = sum_each(ranges);
            if (layer.group_rows > 1)
              store_groups(sums + first, sum, count);
            else
              finish_range(finish, finish.max_scale ? finish.max_scale + first : nullptr,
                           sum * load_lanes<Element::kF32>(groups.slope), count);
          });
    });
  });
}

static constexpr ScaledCpu scaled_table(const char* name) {
  return {name,
          maximum,
          search,
          forward,
          encode,
          decode,
          input_gradient,
          gradients<TunableGradients>,
          gradients<TunableStep>};
}

}  // namespace roundhouse::kernels
