// The kernels over Lanes. Included once by each target's source, after its lanes header; everything is local to it.
#pragma once

#include "kernels/affine_math.h"
#include "kernels/cpu/affine.h"
#include "kernels/cpu/for_lanes.h"

namespace roundhouse::kernels {
template <Element weight>
RH_HD void range_span(const Storage<weight>* w, int64_t size, float& low, float& high) {
  Lanes lowest(0.0f), highest(0.0f), finite(0.0f);
  for_lanes(size, [&](int64_t i, auto lanes) {
    const Lanes x = load<weight>(w + i, lanes);
    lowest = min_of(x, lowest);
    highest = max_of(x, highest);
    finite = finite + (x - x);  // NaN from the first NaN or infinity on
  });
  const float check = sum_lanes(finite);  // 0 or NaN
  low = check + fold_lanes(lowest, [](float x, float y) { return min_of(x, y); });
  high = check + fold_lanes(highest, [](float x, float y) { return max_of(x, y); });
}

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
            const Lanes value = affine_value(group, rounded.code);
            if constexpr (o == w)
              store<o>(qdq + j, value, lanes);
            else
              store<o>(qdq + j, round_to<w>(value), lanes);
          });
        }
        if (layer.whole_tensor && i > 0) continue;
        if (output.scale) store_element(layer.scale, output.scale, span.group, group.scale);
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
        store<o>(elements<o>(output) + span.begin + j, scale * (load(codes + j, lanes) - zero), lanes);
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
    const auto parts = affine_parts(group, rounded, load<gradient_type>(g + i, lanes));
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

}  // namespace roundhouse::kernels
