// SPDX-License-Identifier: Apache-2.0
// Spans are dealt to threads as kernels/cuda/launch.cuh says.
#include <algorithm>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/scaled.h"
#include "kernels/scaled_math.h"

namespace roundhouse::kernels {
namespace {

// The largest of at(0) .. at(size - 1), NaN when one is not finite; valid in lane 0.
template <typename At>
__device__ float largest_at(int64_t size, At at) {
  float highest = 0.0f, finite = 0.0f;
  for (int64_t i = lane(); i < size; i += kLanes) {
    const float x = at(i);
    highest = max_of(x, highest);
    finite = finite + (x - x);
  }
  finite = sum_lanes(finite);
  return finite + fold_lanes(highest, [](float a, float b) { return max_of(a, b); });
}

__global__ void maximum_kernel(ScaledLayer layer, const void* input, float* maximum) {
  const int64_t index = span_index();
  if (index >= scaled_spans(layer)) return;
  const ScaledSpan span = scaled_span(layer, index);
  const float largest =
      largest_at(span.size, [&](int64_t i) { return magnitude(load_element(layer.input, input, span.begin + i)); });
  if (lane() == 0) maximum[index] = largest;
}

// A half-warp a group.
__global__ void group_maximum_kernel(ScaledLayer layer, const float* spans, float* groups) {
  const int64_t group = span_index();
  if (group >= scaled_groups(layer)) return;
  const float largest = largest_at(scaled_rows_of_group(layer, group),
                                   [&](int64_t row) { return spans[scaled_span_of_group(layer, group, row)]; });
  if (lane() == 0) groups[group] = largest;
}

// A half-warp a part: every parts-th row of kLanes maxima.
__global__ void largest_kernel(int64_t n, int64_t parts, const float* maximum, float* largest) {
  const int64_t part = span_index();
  if (part >= parts) return;
  const int64_t rows = (n + kLanes - 1) / kLanes;
  const float found = largest_at((rows - part + parts - 1) / parts * kLanes, [&](int64_t i) {
    const int64_t at = (i / kLanes * parts + part) * kLanes + i % kLanes;
    return at < n ? maximum[at] : 0.0f;
  });
  if (lane() == 0) largest[part] = found;
}

__global__ void calibrated_kernel(ScaledLayer layer, ScaledInput input, float* scale) {
  *scale = scaled_calibrated(layer, input);
}

template <Element type>
__device__ ScaledRounded<float> round_element(const ScaledLayer& layer, const ScaledInput& input,
                                              const ScaledGroup& group, const ScaledSpan& span, int64_t i) {
  const float quotient = scaled_quotient<type>(layer, group, load_element(type, input.input, span.begin + i));
  return scaled_round(layer, quotient, input.v ? input.v[span.v + i] : 0.0f);
}

template <Element type>
__global__ void search_kernel(ScaledLayer layer, ScaledInput input, ScaledSearch search) {
  const int64_t index = span_index();
  if (index >= scaled_spans(layer)) return;
  const ScaledSpan span = scaled_span(layer, index);
  float weights[kMaxSearchSpan];
  scaled_weights(layer, input.input, search.importance, span, weights);
  const float maximum = search.maximum[index];
  float least = 0.0f, best = maximum;  // of lane 0
  for (int k = 0; k < scaled_candidates(layer.rule); ++k) {
    const float candidate = maximum * scaled_candidate(layer.rule, k);
    const ScaledGroup group = scaled_group(layer, candidate, 1.0f, input.largest ? *input.largest : 0.0f);
    float loss = 0.0f;
    for (int64_t i = lane(); i < span.size; i += kLanes) {
      const float error = round_element<type>(layer, input, group, span, i).element * group.scale -
                          load_element(type, input.input, span.begin + i);
      loss = loss + error * error * weights[i];
    }
    loss = sum_lanes(loss);
    if (k > 0 && !(loss < least)) continue;
    least = loss;
    best = candidate;
  }
  all_have_read();
  if (lane() == 0) search.maximum[index] = best;
}

template <Element type>
__global__ void forward_kernel(ScaledLayer layer, ScaledInput input, ScaledOutput output) {
  const int64_t index = span_index();
  if (index >= scaled_spans(layer)) return;
  const ScaledSpan span = scaled_span(layer, index);
  const ScaledGroup group = scaled_group(layer, input, span.group);
  for (int64_t i = lane(); i < span.size; i += kLanes) {
    const float value = round_element<type>(layer, input, group, span, i).element * group.scale;
    store_element(output.qdq_type, output.qdq, span.begin + i, round_to<type>(value));
  }
  const bool shows = output.scale && span.first && (layer.rule != ScaleRule::kUnit || index == 0);
  if (lane() == 0 && shows) store_element(output.scale_type, output.scale, span.group, group.shown);
}

template <Element type>
__global__ void encode_kernel(ScaledLayer layer, ScaledInput input, ScaledCodes output) {
  const int64_t index = span_index();
  if (index >= scaled_spans(layer)) return;
  const ScaledSpan span = scaled_span(layer, index);
  const ScaledGroup group = scaled_group(layer, input, span.group);
  for (int64_t i = lane(); i < span.size; i += kLanes)
    output.codes[span.begin + i] = small_code(layer.element, round_element<type>(layer, input, group, span, i).element);
  if (lane() != 0) return;
  if (span.first) scaled_store_code(layer, group, output.scale, span.group);
  if (index == 0 && output.global_scale) *output.global_scale = scaled_global(layer, *input.largest);
}

__global__ void decode_kernel(ScaledLayer layer, ScaledCodes input, void* output, Element type) {
  const int64_t index = span_index();
  if (index >= scaled_spans(layer)) return;
  const ScaledSpan span = scaled_span(layer, index);
  const float scale = scaled_load_code(layer, input, span.group);
  for (int64_t i = span.begin + lane(); i < span.begin + span.size; i += kLanes)
    store_element(type, output, i, small_value(layer.element, input.codes[i]) * scale);
}

template <Element type>
__global__ void input_gradient_kernel(ScaledLayer layer, ScaledInput input, OutputGradient gradient, void* output,
                                      Element output_type) {
  const int64_t index = span_index();
  if (index >= scaled_spans(layer)) return;
  const ScaledSpan span = scaled_span(layer, index);
  ScaledGroup group = scaled_group(layer, input, span.group);
  group.scale = 1.0f;  // the gradient of v has this factor, the derivative of the quotient its inverse
  for (int64_t i = lane(); i < span.size; i += kLanes) {
    const float g = load_element(gradient.type, gradient.qdq, span.begin + i);
    const auto parts = scaled_parts(layer, group, round_element<type>(layer, input, group, span, i), g);
    store_element(output_type, output, span.begin + i, parts.v);
  }
}

// Backward or sign step, as `Finish` is TunableGradients or TunableStep.
template <Element type, typename Finish>
__global__ void gradients_kernel(ScaledLayer layer, ScaledInput input, OutputGradient gradient, Finish finish,
                                 ScaledSum* sums) {
  const int64_t index = span_index();
  if (index >= scaled_spans(layer)) return;
  const ScaledSpan span = scaled_span(layer, index);
  const ScaledGroup group = scaled_group(layer, input, span.group);
  float range = 0.0f;
  for (int64_t i = lane(); i < span.size; i += kLanes) {
    const float g = load_element(gradient.type, gradient.qdq, span.begin + i);
    const auto parts = scaled_parts(layer, group, round_element<type>(layer, input, group, span, i), g);
    range = range + parts.range;
    finish_v(finish, span.v + i, parts.v);
  }
  for (int64_t i = span.v + span.size + lane(); i < span.v_end; i += kLanes) finish_padding(finish, i);
  range = sum_lanes(range);
  all_have_read();
  if (lane() != 0) return;
  if (layer.group_rows > 1)
    sums[index] = range;
  else
    scaled_finish(finish, index, range * group.slope);
}

template <typename Finish>
__global__ void finish_groups_kernel(ScaledLayer layer, ScaledInput input, const ScaledSum* sums, Finish finish) {
  const int64_t group = span_index();
  if (group >= scaled_groups(layer)) return;
  float sum = 0.0f;
  for (int64_t row = lane(); row < scaled_rows_of_group(layer, group); row += kLanes)
    sum = sum + sums[scaled_span_of_group(layer, group, row)];
  sum = sum_lanes(sum);
  if (lane() == 0) scaled_finish(finish, group, sum * scaled_group(layer, input, group).slope);
}

unsigned blocks_of(int64_t half_warps) {
  return static_cast<unsigned>((half_warps + kSpansPerBlock - 1) / kSpansPerBlock);
}

template <typename Launch>
const char* run(const ScaledCuda& where, const ScaledLayer& layer, Launch&& launch) {
  return run_spans(where.device, where.stream, scaled_spans(layer), launch);
}

template <typename Finish>
const char* run_gradients(const ScaledCuda& where, const ScaledLayer& layer, const ScaledInput& input,
                          const OutputGradient& gradient, const Finish& finish, ScaledSum* sums) {
  return run(where, layer, [&](unsigned blocks, cudaStream_t stream) {
    with_element(layer.input, [&](auto type) {
      gradients_kernel<type.value><<<blocks, kThreads, 0, stream>>>(layer, input, gradient, finish, sums);
    });
    if (layer.group_rows > 1)
      finish_groups_kernel<<<blocks_of(scaled_groups(layer)), kThreads, 0, stream>>>(layer, input, sums, finish);
  });
}

}  // namespace

const char* ScaledCuda::maximum(const ScaledLayer& layer, const void* input, float* maximum, float* workspace) const {
  return run(*this, layer, [&](unsigned blocks, cudaStream_t stream) {
    float* spans = layer.group_rows > 1 ? workspace : maximum;
    maximum_kernel<<<blocks, kThreads, 0, stream>>>(layer, input, spans);
    if (layer.group_rows > 1)
      group_maximum_kernel<<<blocks_of(scaled_groups(layer)), kThreads, 0, stream>>>(layer, spans, maximum);
  });
}

const char* ScaledCuda::largest(int64_t n, const float* maximum, float* largest, float* workspace) const {
  // One part of a large tensor would take longer than the products that use the result.
  constexpr int64_t kMostParts = 1024;
  const int64_t parts = std::min(n / kLanes, kMostParts);
  return run_spans(device, stream, std::max<int64_t>(parts, 1), [&](unsigned blocks, cudaStream_t on) {
    if (parts <= 1) {
      largest_kernel<<<1, kThreads, 0, on>>>(n, 1, maximum, largest);
    } else {
      largest_kernel<<<blocks, kThreads, 0, on>>>(n, parts, maximum, workspace);
      largest_kernel<<<1, kThreads, 0, on>>>(parts, 1, workspace, largest);
    }
  });
}

const char* ScaledCuda::calibrated(const ScaledLayer& layer, const ScaledInput& input, float* scale) const {
  return run_spans(device, stream, 1,
                   [&](unsigned, cudaStream_t on) { calibrated_kernel<<<1, 1, 0, on>>>(layer, input, scale); });
}

const char* ScaledCuda::search(const ScaledLayer& layer, const ScaledInput& input, const ScaledSearch& search) const {
  return run(*this, layer, [&](unsigned blocks, cudaStream_t stream) {
    with_element(layer.input,
                 [&](auto type) { search_kernel<type.value><<<blocks, kThreads, 0, stream>>>(layer, input, search); });
  });
}

const char* ScaledCuda::forward(const ScaledLayer& layer, const ScaledInput& input, const ScaledOutput& output) const {
  return run(*this, layer, [&](unsigned blocks, cudaStream_t stream) {
    with_element(layer.input,
                 [&](auto type) { forward_kernel<type.value><<<blocks, kThreads, 0, stream>>>(layer, input, output); });
  });
}

const char* ScaledCuda::encode(const ScaledLayer& layer, const ScaledInput& input, const ScaledCodes& output) const {
  return run(*this, layer, [&](unsigned blocks, cudaStream_t stream) {
    with_element(layer.input,
                 [&](auto type) { encode_kernel<type.value><<<blocks, kThreads, 0, stream>>>(layer, input, output); });
  });
}

const char* ScaledCuda::decode(const ScaledLayer& layer, const ScaledCodes& input, void* output, Element type) const {
  return run(*this, layer, [&](unsigned blocks, cudaStream_t stream) {
    decode_kernel<<<blocks, kThreads, 0, stream>>>(layer, input, output, type);
  });
}

const char* ScaledCuda::input_gradient(const ScaledLayer& layer, const ScaledInput& input,
                                       const OutputGradient& gradient, void* output, Element type) const {
  return run(*this, layer, [&](unsigned blocks, cudaStream_t stream) {
    with_element(layer.input, [&](auto element) {
      input_gradient_kernel<element.value><<<blocks, kThreads, 0, stream>>>(layer, input, gradient, output, type);
    });
  });
}

const char* ScaledCuda::backward(const ScaledLayer& layer, const ScaledInput& input, const OutputGradient& gradient,
                                 const TunableGradients& output, ScaledSum* sums) const {
  return run_gradients(*this, layer, input, gradient, output, sums);
}

const char* ScaledCuda::sign_step(const ScaledLayer& layer, const ScaledInput& input, const OutputGradient& gradient,
                                  const TunableStep& step, ScaledSum* sums) const {
  return run_gradients(*this, layer, input, gradient, step, sums);
}

}  // namespace roundhouse::kernels
