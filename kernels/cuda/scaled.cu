// SPDX-License-Identifier: Apache-2.0
// Spans are dealt to threads as kernels/cuda/launch.cuh says; kernels that take T and W have T threads a span and W
// elements together, where they have sums T * W = kLanes.
#include <algorithm>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/scaled.h"
#include "kernels/scaled_math.h"

namespace roundhouse::kernels {
namespace {

// The largest of what a thread sees, then of a span's T threads; NaN when one is not finite.
struct Largest {
  float highest = 0.0f, finite = 0.0f;

  __device__ void add(float x) {
    highest = max_of(x, highest);
    finite = finite + (x - x);
  }
  // Valid in the first thread.
  template <int T>
  __device__ float of_threads() {
    return nan_of_threads<T>(finite) + largest_of_threads<T>(highest);
  }
};

template <Element type, int T, int W>
__global__ void maximum_kernel(ScaledLayer layer, Spans spans, const void* input, float* maximum) {
  const int64_t index = span_index<T>();
  if (index >= spans.count) return;
  const ScaledSpan span = scaled_span(layer, index, spans.per_row);
  Largest found;
  for (int64_t i = place<T>() * W; i < span.size; i += T * W) {
    float x[W];
    load_elements<type>(input, span.begin + i, x);
    for (int k = 0; k < W; ++k) found.add(magnitude(x[k]));
  }
  const float largest = found.of_threads<T>();
  if (place<T>() == 0) maximum[index] = largest;
}

// kLanes threads a group.
__global__ void group_maximum_kernel(ScaledLayer layer, const float* spans, float* groups) {
  const int64_t group = span_index<kLanes>();
  if (group >= scaled_groups(layer)) return;
  Largest found;
#pragma unroll 8
  for (int64_t row = place<kLanes>(); row < scaled_rows_of_group(layer, group); row += kLanes)
    found.add(spans[scaled_span_of_group(layer, group, row)]);
  const float largest = found.of_threads<kLanes>();
  if (place<kLanes>() == 0) groups[group] = largest;
}

// A thread a group.
__global__ void check_kernel(ScaledLayer layer, int64_t groups, const float* maximum, const float* largest,
                             uint32_t* status) {
  const int64_t group = thread_index();
  if (group == 0 && largest && !is_finite(*largest)) tell(status, kNotFinite);
  if (!maximum || group >= groups) return;
  const float m = maximum[group];
  if (!is_finite(m))
    tell(status, kNotFinite);
  else if (!is_finite(scaled_group(layer, m, 1.0f, largest ? *largest : 0.0f).scale))
    tell(status, kScaleRange);
}

// kLanes threads a part: every parts-th row of kLanes maxima.
__global__ void largest_kernel(int64_t n, int64_t parts, const float* maximum, float* largest) {
  const int64_t part = span_index<kLanes>();
  if (part >= parts) return;
  Largest found;
  for (int64_t i = part * kLanes + place<kLanes>(); i < n; i += parts * kLanes) found.add(maximum[i]);
  const float of_part = found.of_threads<kLanes>();
  if (place<kLanes>() == 0) largest[part] = of_part;
}

__global__ void calibrated_kernel(ScaledLayer layer, ScaledInput input, float* scale) {
  *scale = scaled_calibrated(layer, input);
}

template <Element type, int W>
__device__ void round_elements(const ScaledLayer& layer, const ScaledInput& input, const ScaledGroup& group,
                               const ScaledSpan& span, int64_t i, ScaledRounded<float> (&out)[W]) {
  float x[W], v[W] = {};
  load_elements<type>(input.input, span.begin + i, x);
  if (input.v) load_elements<Element::kF32>(input.v, span.v + i, v);
  for (int k = 0; k < W; ++k) out[k] = scaled_round(layer, scaled_quotient<type>(layer, group, x[k]), v[k]);
}

template <Element type>
__global__ void search_kernel(ScaledLayer layer, Spans spans, ScaledInput input, ScaledSearch search) {
  const int64_t index = span_index<kLanes>();
  if (index >= spans.count) return;
  const ScaledSpan span = scaled_span(layer, index, spans.per_row);
  const ScaledWeights weights = scaled_weights(layer, input.input, search.importance, span);
  const float maximum = search.maximum[index];
  float least = 0.0f, best = maximum;  // of the first thread
  for (int k = 0; k < scaled_candidates(layer.rule); ++k) {
    const float candidate = maximum * scaled_candidate(layer.rule, k);
    const ScaledGroup group = scaled_group(layer, candidate, 1.0f, input.largest ? *input.largest : 0.0f);
    float losses[1] = {};
    for (int64_t i = place<kLanes>(); i < span.size; i += kLanes) {
      ScaledRounded<float> rounded[1];
      round_elements<type>(layer, input, group, span, i, rounded);
      const float element = load_element(type, input.input, span.begin + i);
      const float error = rounded[0].element * group.scale - element;
      const float importance = search.importance ? search.importance[span.col + i] : 1.0f;
      losses[0] = losses[0] + error * error * scaled_weight(weights, importance, element);
    }
    const float loss = sum_lanes(losses);
    if (k > 0 && !(loss < least)) continue;
    least = loss;
    best = candidate;
  }
  all_have_read();
  if (place<kLanes>() == 0) search.maximum[index] = best;
}

template <Element type, int T, int W>
__global__ void forward_kernel(ScaledLayer layer, Spans spans, ScaledInput input, ScaledOutput output) {
  const int64_t index = span_index<T>();
  if (index >= spans.count) return;
  const ScaledSpan span = scaled_span(layer, index, spans.per_row);
  const ScaledGroup group = scaled_group(layer, input, span.group);
  for (int64_t i = place<T>() * W; i < span.size; i += T * W) {
    ScaledRounded<float> rounded[W];
    round_elements<type>(layer, input, group, span, i, rounded);
    float value[W];
    for (int k = 0; k < W; ++k) value[k] = rounded[k].element * group.scale;
    store_rounded<type>(output.qdq_type, output.qdq, span.begin + i, value);
  }
  const bool shows = output.scale && span.first && (layer.rule != ScaleRule::kUnit || index == 0);
  if (place<T>() == 0 && shows) store_element(output.scale_type, output.scale, span.group, group.shown);
}

template <Element type>
__global__ void encode_kernel(ScaledLayer layer, Spans spans, ScaledInput input, ScaledCodes output) {
  const int64_t index = span_index<kLanes>();
  if (index >= spans.count) return;
  const ScaledSpan span = scaled_span(layer, index, spans.per_row);
  const ScaledGroup group = scaled_group(layer, input, span.group);
  for (int64_t i = place<kLanes>(); i < span.size; i += kLanes) {
    ScaledRounded<float> rounded[1];
    round_elements<type>(layer, input, group, span, i, rounded);
    output.codes[span.begin + i] = small_code(layer.element, rounded[0].element);
  }
  if (place<kLanes>() != 0) return;
  if (span.first) scaled_store_code(layer, group, output.scale, span.group);
  if (index == 0 && output.global_scale) *output.global_scale = scaled_global(layer, *input.largest);
}

__global__ void decode_kernel(ScaledLayer layer, Spans spans, ScaledCodes input, void* output, Element type) {
  const int64_t index = span_index<kLanes>();
  if (index >= spans.count) return;
  const ScaledSpan span = scaled_span(layer, index, spans.per_row);
  const float scale = scaled_load_code(layer, input, span.group);
  for (int64_t i = span.begin + place<kLanes>(); i < span.begin + span.size; i += kLanes)
    store_element(type, output, i, small_value(layer.element, input.codes[i]) * scale);
}

template <Element type, int T, int W>
__global__ void input_gradient_kernel(ScaledLayer layer, Spans spans, ScaledInput input, OutputGradient gradient,
                                      void* output, Element output_type) {
  const int64_t index = span_index<T>();
  if (index >= spans.count) return;
  const ScaledSpan span = scaled_span(layer, index, spans.per_row);
  ScaledGroup group = scaled_group(layer, input, span.group);
  group.scale = 1.0f;  // the gradient of v has this factor, the derivative of the quotient its inverse
  for (int64_t i = place<T>() * W; i < span.size; i += T * W) {
    ScaledRounded<float> rounded[W];
    round_elements<type>(layer, input, group, span, i, rounded);
    float at_output[W], of_input[W];
    load_elements(gradient.type, gradient.qdq, span.begin + i, at_output);
    for (int k = 0; k < W; ++k) of_input[k] = scaled_parts(layer, group, rounded[k], at_output[k]).v;
    store_elements(output_type, output, span.begin + i, of_input);
  }
}

// Backward or sign step, as `Finish` is TunableGradients or TunableStep.
template <Element type, int T, int W, typename Finish>
__global__ void gradients_kernel(ScaledLayer layer, Spans spans, ScaledInput input, OutputGradient gradient,
                                 Finish finish, ScaledSum* sums) {
  const int64_t index = span_index<T>();
  if (index >= spans.count) return;
  const ScaledSpan span = scaled_span(layer, index, spans.per_row);
  const ScaledGroup group = scaled_group(layer, input, span.group);
  float ranges[W] = {};
  for (int64_t i = place<T>() * W; i < span.size; i += kLanes) {
    ScaledRounded<float> rounded[W];
    round_elements<type>(layer, input, group, span, i, rounded);
    float at_output[W], of_v[W];
    load_elements(gradient.type, gradient.qdq, span.begin + i, at_output);
    for (int k = 0; k < W; ++k) {
      const auto parts = scaled_parts(layer, group, rounded[k], at_output[k]);
      ranges[k] = ranges[k] + parts.range;
      of_v[k] = parts.v;
    }
    finish_v(finish, span.v + i, of_v);
  }
  for (int64_t i = span.v + span.size + place<T>(); i < span.v_end; i += T) finish_padding(finish, i);
  const float range = sum_lanes(ranges);
  all_have_read();
  if (place<T>() != 0) return;
  if (layer.group_rows > 1)
    sums[index] = range;
  else
    scaled_finish(finish, index, range * group.slope);
}

template <typename Finish>
__global__ void finish_groups_kernel(ScaledLayer layer, ScaledInput input, const ScaledSum* sums, Finish finish) {
  const int64_t group = span_index<kLanes>();
  if (group >= scaled_groups(layer)) return;
  float of_rows[1] = {};
#pragma unroll 8
  for (int64_t row = place<kLanes>(); row < scaled_rows_of_group(layer, group); row += kLanes)
    of_rows[0] = of_rows[0] + sums[scaled_span_of_group(layer, group, row)];
  const float sum = sum_lanes(of_rows);
  if (place<kLanes>() == 0) scaled_finish(finish, group, sum * scaled_group(layer, input, group).slope);
}

template <typename Launch>
const char* run(const ScaledCuda& where, const ScaledLayer& layer, Launch&& launch) {
  const Spans spans{scaled_spans(layer), scaled_spans_per_row(layer)};
  return run_spans(where.device, where.stream, spans.count, [&](cudaStream_t stream) { launch(spans, stream); });
}

// Whether rows and spans are whole eights, and the tensors are aligned.
bool together(const ScaledLayer& layer, std::initializer_list<const void*> tensors) {
  return together(layer.cols | layer.span_cols, tensors);
}

template <typename Finish>
const char* run_gradients(const ScaledCuda& where, const ScaledLayer& layer, const ScaledInput& input,
                          const OutputGradient& gradient, const Finish& finish, ScaledSum* sums) {
  return run(where, layer, [&](const Spans& spans, cudaStream_t stream) {
    with_element(layer.input, [&](auto type) {
      with_sums(together(layer, {input.input, input.v, gradient.qdq, finish.v}), layer.span_cols, [&](auto t, auto w) {
        gradients_kernel<type.value, t.value, w.value>
            <<<blocks_of(spans.count * t.value), kThreads, 0, stream>>>(layer, spans, input, gradient, finish, sums);
      });
    });
    if (layer.group_rows > 1)
      finish_groups_kernel<<<blocks_of(scaled_groups(layer) * kLanes), kThreads, 0, stream>>>(layer, input, sums,
                                                                                              finish);
  });
}

}  // namespace

const char* ScaledCuda::maximum(const ScaledLayer& layer, const void* input, float* maximum, float* workspace) const {
  return run(*this, layer, [&](const Spans& spans, cudaStream_t stream) {
    float* of_spans = layer.group_rows > 1 ? workspace : maximum;
    with_element(layer.input, [&](auto type) {
      without_sums(together(layer, {input}), layer.span_cols, [&](auto t, auto w) {
        maximum_kernel<type.value, t.value, w.value>
            <<<blocks_of(spans.count * t.value), kThreads, 0, stream>>>(layer, spans, input, of_spans);
      });
    });
    if (layer.group_rows > 1)
      group_maximum_kernel<<<blocks_of(scaled_groups(layer) * kLanes), kThreads, 0, stream>>>(layer, of_spans, maximum);
  });
}

const char* ScaledCuda::largest(int64_t n, const float* maximum, float* largest, float* workspace) const {
  // One part of a large tensor would take longer than the products that use the result.
  constexpr int64_t kMostParts = 1024;
  const int64_t parts = std::min(n / kLanes, kMostParts);
  return run_spans(device, stream, 1, [&](cudaStream_t on) {
    if (parts > 1) largest_kernel<<<blocks_of(parts * kLanes), kThreads, 0, on>>>(n, parts, maximum, workspace);
    largest_kernel<<<1, kThreads, 0, on>>>(parts > 1 ? parts : n, 1, parts > 1 ? workspace : maximum, largest);
  });
}

const char* ScaledCuda::check(const ScaledLayer& layer, int64_t groups, const float* maximum, const float* largest,
                              uint32_t* status) const {
  return run_spans(device, stream, groups, [&](cudaStream_t on) {
    if (status) check_kernel<<<blocks_of(groups), kThreads, 0, on>>>(layer, groups, maximum, largest, status);
  });
}

const char* ScaledCuda::calibrated(const ScaledLayer& layer, const ScaledInput& input, float* scale) const {
  return run_spans(device, stream, 1,
                   [&](cudaStream_t on) { calibrated_kernel<<<1, 1, 0, on>>>(layer, input, scale); });
}

const char* ScaledCuda::search(const ScaledLayer& layer, const ScaledInput& input, const ScaledSearch& search) const {
  return run(*this, layer, [&](const Spans& spans, cudaStream_t stream) {
    with_element(layer.input, [&](auto type) {
      search_kernel<type.value><<<blocks_of(spans.count * kLanes), kThreads, 0, stream>>>(layer, spans, input, search);
    });
  });
}

const char* ScaledCuda::forward(const ScaledLayer& layer, const ScaledInput& input, const ScaledOutput& output) const {
  return run(*this, layer, [&](const Spans& spans, cudaStream_t stream) {
    with_element(layer.input, [&](auto type) {
      without_sums(together(layer, {input.input, input.v, output.qdq}), layer.span_cols, [&](auto t, auto w) {
        forward_kernel<type.value, t.value, w.value>
            <<<blocks_of(spans.count * t.value), kThreads, 0, stream>>>(layer, spans, input, output);
      });
    });
  });
}

const char* ScaledCuda::encode(const ScaledLayer& layer, const ScaledInput& input, const ScaledCodes& output) const {
  return run(*this, layer, [&](const Spans& spans, cudaStream_t stream) {
    with_element(layer.input, [&](auto type) {
      encode_kernel<type.value><<<blocks_of(spans.count * kLanes), kThreads, 0, stream>>>(layer, spans, input, output);
    });
  });
}

const char* ScaledCuda::decode(const ScaledLayer& layer, const ScaledCodes& input, void* output, Element type) const {
  return run(*this, layer, [&](const Spans& spans, cudaStream_t stream) {
    decode_kernel<<<blocks_of(spans.count * kLanes), kThreads, 0, stream>>>(layer, spans, input, output, type);
  });
}

const char* ScaledCuda::input_gradient(const ScaledLayer& layer, const ScaledInput& input,
                                       const OutputGradient& gradient, void* output, Element type) const {
  return run(*this, layer, [&](const Spans& spans, cudaStream_t stream) {
    with_element(layer.input, [&](auto element) {
      without_sums(together(layer, {input.input, input.v, gradient.qdq, output}), layer.span_cols, [&](auto t, auto w) {
        input_gradient_kernel<element.value, t.value, w.value>
            <<<blocks_of(spans.count * t.value), kThreads, 0, stream>>>(layer, spans, input, gradient, output, type);
      });
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
