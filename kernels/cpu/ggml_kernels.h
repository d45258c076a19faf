// SPDX-License-Identifier: Apache-2.0
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

// Of kLanes blocks that are one group each.
KERNEL_FN GgmlGroups<Lanes> single_groups(const GgmlLayer& layer, const GgmlInput& input, int64_t first,
                                          int64_t count) {
  const auto of_groups = [&](const float* from) { return from ? load_groups(from + first, count) : Lanes(1.0f); };
  return ggml_group(layer, of_groups(input.low), of_groups(input.high), of_groups(input.min_scale),
                    of_groups(input.max_scale));
}

// The parameters of at most kLanes blocks. Once in each target, for the sake of the compiler's time.
static __attribute__((noinline)) void blocks_of(const GgmlLayer& layer, const GgmlInput& input, int64_t first,
                                                int64_t count, GgmlBlock* out) {
  if (layer.super_bits != 0 || layer.searched) {
    for (int64_t k = 0; k < count; ++k) ggml_block(layer, input, first + k, out[k]);
    return;
  }
  const GgmlSingle<Lanes> singles = ggml_single(layer, single_groups(layer, input, first, count));
  float scale[kLanes], minimum[kLanes];
  store_lanes<Element::kF32>(scale, singles.scale);
  store_lanes<Element::kF32>(minimum, singles.minimum);
  for (int64_t k = 0; k < count; ++k) ggml_fill_single(scale[k], minimum[k], out[k]);
}

// The range gradients, or the step of the ranges, of a block's groups, or of `count` blocks that are one group each,
// from the sums of their elements.
template <typename Finish>
static __attribute__((noinline)) void finish_ranges(const GgmlLayer& layer, const GgmlInput& input, int64_t first,
                                                    int64_t count, Lanes direct, Lanes clipped, const Finish& finish) {
  if (layer.super_bits != 0) {
    float of_direct[kLanes], of_clipped[kLanes];
    store_lanes<Element::kF32>(of_direct, direct);
    store_lanes<Element::kF32>(of_clipped, clipped);
    AffineSums sums[kMostGroups];
    for (int i = 0; i < kMostGroups; ++i) sums[i] = {of_direct[i], of_clipped[i]};
    return ggml_finish_ranges(layer, input, first, sums, finish);
  }
  const GgmlGroups<Lanes> groups = single_groups(layer, input, first, count);
  const auto gradients =
      ggml_range_gradients(layer, groups, load_groups(input.low + first, count), load_groups(input.high + first, count),
                           ggml_scale_gradient(layer, groups, direct, clipped), -clipped);
  finish_range(finish, finish.min_scale ? finish.min_scale + first : nullptr, gradients.min_scale, count);
  finish_range(finish, finish.max_scale ? finish.max_scale + first : nullptr, gradients.max_scale, count);
}

// Rounds a block and calls use(rounding, group, i, rounded) for each kLanes of its elements: a group has 16 or 32.
template <Element weight, typename Use>
KERNEL_FN void round_block(const GgmlLayer& layer, const GgmlInput& input, const GgmlBlock& block, int64_t index,
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
    with_element(output.qdq_type, [&](auto qdq_type) {
      for_groups(begin, end, [&](int64_t first, int64_t count) {
        GgmlBlock blocks[kLanes];
        blocks_of(layer, input, first, count, blocks);
        for (int64_t index = first; index < first + count; ++index) {
          const GgmlBlock& block = blocks[index - first];
          if (output.qdq) {
            round_block<w>(layer, input, block, index, [&](const auto& group, int, int64_t i, const auto& rounded) {
              const Lanes value = ggml_value(group, rounded.code);
              store_rounded<w>(qdq_type, output.qdq, i, value, AllLanes{});
            });
          }
          ggml_store_parameters(layer, block, index, output);
        }
      });
    });
  });
}

static void ggml_codes(const GgmlLayer& layer, const GgmlInput& input, uint8_t* codes, GgmlBlock* blocks, int64_t begin,
                       int64_t end) {
  with_element(layer.weight, [&](auto w_tag) {
    blocks_of(layer, input, begin, end - begin, blocks);
    for (int64_t index = begin; index < end; ++index)
      round_block<w_tag.value>(layer, input, blocks[index - begin], index,
                               [&](const auto&, int, int64_t i, const auto& rounded) {
                                 store_codes(codes + (i - begin * layer.block_cols), rounded.code);
                               });
  });
}

// Backward or sign step, as `Finish` is TunableGradients or TunableStep.
template <typename Finish>
static void ggml_gradients(const GgmlLayer& layer, const GgmlInput& input, const OutputGradient& gradient,
                           const Finish& finish, int64_t begin, int64_t end) {
  with_element(layer.weight, [&](auto w_tag) {
    with_side_element(gradient.type, [&](auto type) {
      const bool single = layer.super_bits == 0, ranges = finish.min_scale || finish.max_scale;
      for_groups(begin, end, [&](int64_t first, int64_t count) {
        GgmlBlock blocks[kLanes];
        blocks_of(layer, input, first, count, blocks);
        Lanes direct[kLanes], clipped[kLanes];
        for (int i = 0; i < kLanes; ++i) direct[i] = clipped[i] = Lanes(0.0f);
        for (int64_t k = 0; k < count; ++k) {
          Lanes *of_direct = direct + (single ? k : 0), *of_clipped = clipped + (single ? k : 0);
          for (int i = 0; i < ggml_block_groups(layer); ++i) of_direct[i] = of_clipped[i] = Lanes(0.0f);
          round_block<w_tag.value>(
              layer, input, blocks[k], first + k, [&](const auto& group, int at, int64_t i, const auto& rounded) {
                const auto parts = ggml_parts(group, rounded, load_at(type, gradient.qdq, i, AllLanes{}));
                of_direct[at] = of_direct[at] + parts.direct;
                of_clipped[at] = of_clipped[at] + parts.clipped;
                finish_v(finish, i, parts.v, AllLanes{});
              });
          if (ranges && !single) finish_ranges(layer, input, first + k, 1, sum_each(direct), sum_each(clipped), finish);
        }
        if (ranges && single) finish_ranges(layer, input, first, count, sum_each(direct), sum_each(clipped), finish);
      });
    });
  });
}

}  // namespace roundhouse::kernels
