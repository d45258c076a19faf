// The kernels over Lanes. Included once by each target's source, after its lanes header; everything is local to it.
#pragma once

#include "kernels/cpu/ggml.h"
#include "kernels/cpu/range_span.h"
#include "kernels/ggml_math.h"

namespace roundhouse::kernels {

static void ggml_range(const GgmlLayer& layer, const void* weight, float* low, float* high, int64_t begin,
                       int64_t end) {
  const int groups = ggml_block_groups(layer);
  with_element(layer.weight, [&](auto w_tag) {
    constexpr Element w = w_tag.value;
    for_groups(begin * groups, end * groups, [&](int64_t first, int64_t count) {
      SpanRanges<w> ranges(count);
      for (int64_t k = 0; k < count; ++k)
        ranges.measure(k, elements<w>(weight) + (first + k) * layer.group_cols, layer.group_cols);
      ranges.store(low + first, high + first);
    });
  });
}

// Once in each target, for the sake of the compiler's time.
static __attribute__((noinline)) void block_of(const GgmlLayer& layer, const GgmlInput& input, int64_t index,
                                               GgmlBlock& out) {
  ggml_block(layer, input, index, out);
}
template <typename Finish>
static __attribute__((noinline)) void finish_ranges(const GgmlLayer& layer, const GgmlInput& input, int64_t index,
                                                    const AffineSums* sums, const Finish& finish) {
  ggml_finish_ranges(layer, input, index, sums, finish);
}

// Rounds a block and calls use(rounding, group, i, rounded) for each kLanes of its elements: a group has 16 or 32.
template <Element weight, typename Use>
RH_HD void round_block(const GgmlLayer& layer, const GgmlInput& input, const GgmlBlock& block, int64_t index,
                       Use&& use) {
  const int64_t begin = index * layer.block_cols;
  const Storage<weight>* w = elements<weight>(input.weight);
  for (int g = 0; g < ggml_block_groups(layer); ++g) {
    const GgmlRounding group = ggml_rounding(layer, block.scale[g], block.minimum[g]);
    const int64_t first = begin + g * layer.group_cols;
    for (int64_t i = first; i < first + layer.group_cols; i += kLanes) {
      const Lanes quotient = ggml_quotient(group, load_lanes<weight>(w + i));
      const Lanes position = input.v ? quotient + load_lanes<Element::kF32>(input.v + i) : quotient;
      use(group, g, i, ggml_round(group, quotient, position));
    }
  }
}

static void ggml_forward(const GgmlLayer& layer, const GgmlInput& input, const GgmlOutput& output, int64_t begin,
                         int64_t end) {
  with_element(layer.weight, [&](auto w_tag) {
    constexpr Element w = w_tag.value;
    with_element(output.qdq_type, [&](auto o_tag) {
      constexpr Element o = o_tag.value;
      for (int64_t index = begin; index < end; ++index) {
        GgmlBlock block;
        block_of(layer, input, index, block);
        if (output.qdq) {
          round_block<w>(layer, input, block, index, [&](const auto& group, int, int64_t i, const auto& rounded) {
            const Lanes value = ggml_value(group, rounded.code);
            store_lanes<o>(elements<o>(output.qdq) + i, o == w ? value : round_to<w>(value));
          });
        }
        ggml_store_parameters(layer, block, index, output);
      }
    });
  });
}

static void ggml_codes(const GgmlLayer& layer, const GgmlInput& input, int64_t index, uint8_t* codes,
                       GgmlBlock& block) {
  with_element(layer.weight, [&](auto w_tag) {
    block_of(layer, input, index, block);
    round_block<w_tag.value>(layer, input, block, index, [&](const auto&, int, int64_t i, const auto& rounded) {
      store_codes(codes + (i - index * layer.block_cols), rounded.code);
    });
  });
}

// Backward or sign step, as `Finish` is TunableGradients or TunableStep.
template <typename Finish>
static void ggml_gradients(const GgmlLayer& layer, const GgmlInput& input, const OutputGradient& gradient,
                           const Finish& finish, int64_t begin, int64_t end) {
  with_element(layer.weight, [&](auto w_tag) {
    with_element(gradient.type, [&](auto g_tag) {
      constexpr Element g = g_tag.value;
      for (int64_t index = begin; index < end; ++index) {
        GgmlBlock block;
        block_of(layer, input, index, block);
        Lanes direct[kMostGroups], clipped[kMostGroups];
        for (int i = 0; i < kMostGroups; ++i) direct[i] = clipped[i] = Lanes(0.0f);
        round_block<w_tag.value>(
            layer, input, block, index, [&](const auto& group, int at, int64_t i, const auto& rounded) {
              const auto parts = ggml_parts(group, rounded, load_lanes<g>(elements<g>(gradient.qdq) + i));
              direct[at] = direct[at] + parts.direct;
              clipped[at] = clipped[at] + parts.clipped;
              finish_v(finish, i, parts.v, AllLanes{});
            });
        if (!finish.min_scale && !finish.max_scale) continue;
        AffineSums sums[kMostGroups];
        for (int i = 0; i < ggml_block_groups(layer); ++i) sums[i] = {sum_lanes(direct[i]), sum_lanes(clipped[i])};
        finish_ranges(layer, input, index, sums, finish);
      }
    });
  });
}

}  // namespace roundhouse::kernels
