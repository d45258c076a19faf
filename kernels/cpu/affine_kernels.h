// The kernels over Lanes. Included once by each target's source, after its lanes header; everything is local to it.
#pragma once

#include "kernels/affine_math.h"
#include "kernels/cpu/affine.h"
#include "kernels/cpu/range_span.h"

namespace roundhouse::kernels {

static void range(const AffineLayer& layer, const void* weight, float* low, float* high, int64_t begin, int64_t end) {
  with_element(layer.weight, [&](auto w_tag) {
    constexpr Element w = w_tag.value;
    for (int64_t i = begin; i < end; ++i) {
      const AffineSpan span = affine_span(layer, i);
      range_span<w>(elements<w>(weight) + span.begin, span.size, low[i], high[i]);
    }
  });
}

// Rounds a span and calls use(i, rounded, lanes) for each kLanes elements.
template <Element weight, typename Use>
RH_HD void round_span(const AffineLayer& layer, const AffineInput& input, const AffineGroup& group,
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

static void forward(const AffineLayer& layer, const AffineInput& input, const AffineOutput& output, int64_t begin,
                    int64_t end) {
  with_element(layer.weight, [&](auto w_tag) {
    constexpr Element w = w_tag.value;
    with_element(output.qdq_type, [&](auto o_tag) {
      constexpr Element o = o_tag.value;
      for (int64_t i = begin; i < end; ++i) {
        const AffineSpan span = affine_span(layer, i);
        const AffineGroup group = affine_group(layer, input, span.group);
        if (output.qdq) {
          Storage<o>* qdq = elements<o>(output.qdq) + span.begin;
          round_span<w>(layer, input, group, span, [&](int64_t j, const auto& rounded, auto lanes) {
            const Lanes value = times_outer<w>(input.outer_scale, affine_value(group, rounded.code));
            if constexpr (o == w)
              store<o>(qdq + j, value, lanes);
            else
              store<o>(qdq + j, round_to<w>(value), lanes);
          });
        }
        if (output.outer_scale && i == 0) *output.outer_scale = *input.outer_scale;
        if (layer.whole_tensor && i > 0) continue;
        if (output.scale)
          store_element(layer.scale, output.scale, span.group,
                        group.scale * (input.outer_scale ? *input.outer_scale : 1));
        if (output.zero_point) output.zero_point[span.group] = group.zero;
      }
    });
  });
}

static void encode(const AffineLayer& layer, const AffineInput& input, const AffineCodes& output, int64_t begin,
                   int64_t end) {
  with_element(layer.weight, [&](auto w_tag) {
    constexpr Element w = w_tag.value;
    for (int64_t i = begin; i < end; ++i) {
      const AffineSpan span = affine_span(layer, i);
      const AffineGroup group = affine_group(layer, input, span.group);
      uint8_t* codes = output.codes + span.begin;
      round_span<w>(layer, input, group, span, [&](int64_t j, const auto& rounded, auto lanes) {
        store(codes + j, rounded.code - Lanes(group.bottom), lanes);
      });
      if (output.outer_scale && i == 0) *output.outer_scale = *input.outer_scale;
      if (layer.whole_tensor && i > 0) continue;
      store_element(layer.scale, output.scale, span.group, group.scale);
      if (output.zero_point) output.zero_point[span.group] = static_cast<uint8_t>(group.zero);
    }
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

template <Element weight, Element gradient_type, typename Finish>
RH_HD AffineSums gradient_span(const AffineLayer& layer, const AffineInput& input, const AffineGroup& group,
                               const AffineSpan& span, const void* gradient, const Finish& finish) {
  const Storage<gradient_type>* g = elements<gradient_type>(gradient) + span.begin;
  Lanes direct(0.0f), clipped(0.0f);
  round_span<weight>(layer, input, group, span, [&](int64_t i, const auto& rounded, auto lanes) {
    const Lanes at_output = load<gradient_type>(g + i, lanes);
    const auto parts = affine_parts(group, rounded, gradient_times_outer<weight>(input.outer_scale, at_output));
    direct = direct + parts.direct;
    clipped = clipped + parts.clipped;
    finish_v(finish, span.v + i, parts.v, lanes);
  });
  return {sum_lanes(direct), sum_lanes(clipped)};
}

// Backward or sign step, as `Finish` is AffineGradients or AffineStep.
template <typename Finish>
static void gradients(const AffineLayer& layer, const AffineInput& input, const AffineGradient& gradient,
                      const Finish& finish, AffineSums* sums, int64_t begin, int64_t end) {
  with_element(layer.weight, [&](auto w_tag) {
    constexpr Element w = w_tag.value;
    with_element(gradient.type, [&](auto g_tag) {
      constexpr Element g = g_tag.value;
      for (int64_t i = begin; i < end; ++i) {
        const AffineSpan span = affine_span(layer, i);
        const AffineGroup group = affine_group(layer, input, span.group);
        const AffineSums total = gradient_span<w, g>(layer, input, group, span, gradient.qdq, finish);
        finish_padding(finish, span.v + span.size, span.v + layer.span_cols);
        if (layer.whole_tensor)
          sums[i] = total;
        else
          affine_finish(finish, i, affine_range_gradients(layer, group, input.low[i], input.high[i], total));
      }
    });
  });
}

static void input_gradient(const AffineLayer& layer, const AffineInput& input, const AffineGradient& gradient,
                           void* output, int64_t begin, int64_t end) {
  with_element(layer.weight, [&](auto w_tag) {
    constexpr Element w = w_tag.value;
    with_element(gradient.type, [&](auto g_tag) {
      constexpr Element g = g_tag.value;
      for (int64_t i = begin; i < end; ++i) {
        const AffineSpan span = affine_span(layer, i);
        const AffineGroup group = affine_group(layer, input, span.group);
        const AffineSums sums = gradient_span<w, g>(layer, input, group, span, gradient.qdq, AffineGradients{});
        round_span<w>(layer, input, group, span, [&](int64_t j, const auto& rounded, auto lanes) {
          const Lanes at_output = load<g>(elements<g>(gradient.qdq) + span.begin + j, lanes);
          store<w>(elements<w>(output) + span.begin + j, keep(equal(rounded.code, rounded.shifted), at_output), lanes);
        });
        add_slopes(layer, input, span, affine_slopes(layer, group, sums), output);
      }
    });
  });
}

}  // namespace roundhouse::kernels
