// SPDX-License-Identifier: Apache-2.0
// Spans, here ggml's blocks, are dealt to threads as kernels/cuda/launch.cuh says. A group of 16 or 32 columns is one
// element of each lane or two.
#include "kernels/cuda/ggml.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/ggml_math.h"

namespace roundhouse::kernels {
namespace {

__global__ void range_kernel(GgmlLayer layer, const void* weight, float* low, float* high) {
  const int64_t index = span_index();
  if (index >= ggml_blocks(layer)) return;
  const int groups = ggml_block_groups(layer);
  for (int g = 0; g < groups; ++g) {
    const int64_t first = index * layer.block_cols + g * layer.group_cols;
    float lowest = 0.0f, highest = 0.0f, finite = 0.0f;
    for (int64_t i = first + lane(); i < first + layer.group_cols; i += kLanes) {
      const float x = load_element(layer.weight, weight, i);
      lowest = min_of(x, lowest);
      highest = max_of(x, highest);
      finite = finite + (x - x);  // NaN from the first NaN or infinity on
    }
    finite = sum_lanes(finite);
    lowest = fold_lanes(lowest, [](float a, float b) { return min_of(a, b); });
    highest = fold_lanes(highest, [](float a, float b) { return max_of(a, b); });
    if (lane() != 0) continue;
    low[index * groups + g] = finite + lowest;
    high[index * groups + g] = finite + highest;
  }
}

// Rounds this thread's elements of a group and calls use(i, rounded).
template <Element weight, typename Use>
__device__ void round_group(const GgmlLayer& layer, const GgmlInput& input, const GgmlRounding& group, int64_t first,
                            Use use) {
  for (int64_t i = first + lane(); i < first + layer.group_cols; i += kLanes) {
    const float quotient = ggml_quotient(group, load_element(weight, input.weight, i));
    use(i, ggml_round(group, quotient, input.v ? quotient + input.v[i] : quotient));
  }
}

template <Element weight>
__global__ void forward_kernel(GgmlLayer layer, GgmlInput input, GgmlOutput output) {
  const int64_t index = span_index();
  if (index >= ggml_blocks(layer)) return;
  GgmlBlock block;
  ggml_block(layer, input, index, block);
  for (int g = 0; g < ggml_block_groups(layer) && output.qdq; ++g) {
    const GgmlRounding group = ggml_rounding(layer, block.scale[g], block.minimum[g]);
    round_group<weight>(layer, input, group, index * layer.block_cols + g * layer.group_cols,
                        [&](int64_t i, const GgmlRounded<float>& rounded) {
                          store_element(output.qdq_type, output.qdq, i,
                                        round_to<weight>(ggml_value(group, rounded.code)));
                        });
  }
  if (lane() == 0) ggml_store_parameters(layer, block, index, output);
}

// Backward or sign step, as `Finish` is TunableGradients or TunableStep.
template <Element weight, typename Finish>
__global__ void gradients_kernel(GgmlLayer layer, GgmlInput input, OutputGradient gradient, Finish finish) {
  const int64_t index = span_index();
  if (index >= ggml_blocks(layer)) return;
  GgmlBlock block;
  ggml_block(layer, input, index, block);
  AffineSums sums[kMostGroups];
  for (int g = 0; g < ggml_block_groups(layer); ++g) {
    const GgmlRounding group = ggml_rounding(layer, block.scale[g], block.minimum[g]);
    float direct = 0.0f, clipped = 0.0f;
    round_group<weight>(layer, input, group, index * layer.block_cols + g * layer.group_cols,
                        [&](int64_t i, const GgmlRounded<float>& rounded) {
                          const auto parts = ggml_parts(group, rounded, load_element(gradient.type, gradient.qdq, i));
                          direct = direct + parts.direct;
                          clipped = clipped + parts.clipped;
                          finish_v(finish, i, parts.v);
                        });
    sums[g] = {sum_lanes(direct), sum_lanes(clipped)};
  }
  all_have_read();
  if (lane() == 0) ggml_finish_ranges(layer, input, index, sums, finish);
}

template <typename Finish>
const char* run_gradients(const GgmlCuda& where, const GgmlLayer& layer, const GgmlInput& input,
                          const OutputGradient& gradient, const Finish& finish) {
  return run_spans(where.device, where.stream, ggml_blocks(layer), [&](unsigned blocks, cudaStream_t stream) {
    with_element(layer.weight, [&](auto weight) {
      gradients_kernel<weight.value><<<blocks, kThreads, 0, stream>>>(layer, input, gradient, finish);
    });
  });
}

}  // namespace

const char* GgmlCuda::range(const GgmlLayer& layer, const void* weight, float* low, float* high) const {
  return run_spans(device, stream, ggml_blocks(layer), [&](unsigned blocks, cudaStream_t on) {
    range_kernel<<<blocks, kThreads, 0, on>>>(layer, weight, low, high);
  });
}

const char* GgmlCuda::forward(const GgmlLayer& layer, const GgmlInput& input, const GgmlOutput& output) const {
  return run_spans(device, stream, ggml_blocks(layer), [&](unsigned blocks, cudaStream_t on) {
    with_element(layer.weight,
                 [&](auto weight) { forward_kernel<weight.value><<<blocks, kThreads, 0, on>>>(layer, input, output); });
  });
}

const char* GgmlCuda::backward(const GgmlLayer& layer, const GgmlInput& input, const OutputGradient& gradient,
                               const TunableGradients& output) const {
  return run_gradients(*this, layer, input, gradient, output);
}

const char* GgmlCuda::sign_step(const GgmlLayer& layer, const GgmlInput& input, const OutputGradient& gradient,
                                const TunableStep& step) const {
  return run_gradients(*this, layer, input, gradient, step);
}

}  // namespace roundhouse::kernels
