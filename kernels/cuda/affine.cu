// SPDX-License-Identifier: Apache-2.0
// Spans are dealt to threads as kernels/cuda/launch.cuh says.
#include "kernels/affine_math.h"
#include "kernels/affine_search.h"
#include "kernels/cuda/affine.h"
#include "kernels/cuda/launch.cuh"

namespace roundhouse::kernels {
namespace {

struct Range {
  float low, high;
};

// The range of size elements, given by element(i); valid in lane 0.
template <typename ElementAt>
__device__ Range range_of(int64_t size, ElementAt element) {
  float lowest = 0.0f, highest = 0.0f, finite = 0.0f;
  for (int64_t i = lane(); i < size; i += kLanes) {
    const Range x = element(i);
    lowest = min_of(x.low, lowest);
    highest = max_of(x.high, highest);
    finite = finite + (x.low - x.low);  // NaN from the first NaN or infinity on
  }
  finite = sum_lanes(finite);
  return {finite + fold_lanes(lowest, [](float a, float b) { return min_of(a, b); }),
          finite + fold_lanes(highest, [](float a, float b) { return max_of(a, b); })};
}

__global__ void range_kernel(AffineLayer layer, const void* weight, float* low, float* high) {
  const int64_t index = span_index();
  if (index >= affine_spans(layer)) return;
  const AffineSpan span = affine_span(layer, index);
  const Range range = range_of(span.size, [&](int64_t i) {
    const float w = load_element(layer.weight, weight, span.begin + i);
    return Range{w, w};
  });
  if (lane() != 0) return;
  low[index] = range.low;
  high[index] = range.high;
}

__global__ void range_tensor_kernel(int64_t spans, const float* span_low, const float* span_high, float* low,
                                    float* high) {
  const Range range = range_of(spans, [&](int64_t i) { return Range{span_low[i], span_high[i]}; });
  if (lane() != 0) return;
  *low = range.low;
  *high = range.high;
}

template <Element weight>
__device__ AffineRounded<float> round_element(const AffineLayer& layer, const AffineInput& input,
                                              const AffineGroup& group, const AffineSpan& span, int64_t i) {
  const float quotient =
      affine_quotient<weight>(layer, load_element(weight, input.weight, span.begin + i), group.scale);
  return affine_round(group, quotient, input.v ? quotient + input.v[span.v + i] : quotient);
}

template <Element weight>
__global__ void forward_kernel(AffineLayer layer, AffineInput input, AffineOutput output) {
  const int64_t index = span_index();
  if (index >= affine_spans(layer)) return;
  const AffineSpan span = affine_span(layer, index);
  const AffineGroup group = affine_group(layer, input, span.group);
  for (int64_t i = lane(); i < span.size && output.qdq; i += kLanes) {
    const float code = round_element<weight>(layer, input, group, span, i).code;
    const float value = times_outer<weight>(input.outer_scale, affine_value(group, code));
    store_element(output.qdq_type, output.qdq, span.begin + i, round_to<weight>(value));
  }
  if (output.outer_scale && lane() == 0 && index == 0) *output.outer_scale = *input.outer_scale;
  if (lane() != 0 || (layer.whole_tensor && index > 0)) return;
  if (output.scale)
    store_element(layer.scale, output.scale, span.group, group.scale * (input.outer_scale ? *input.outer_scale : 1));
  if (output.zero_point) output.zero_point[span.group] = group.zero;
}

template <Element weight>
__global__ void encode_kernel(AffineLayer layer, AffineInput input, AffineCodes output) {
  const int64_t index = span_index();
  if (index >= affine_spans(layer)) return;
  const AffineSpan span = affine_span(layer, index);
  const AffineGroup group = affine_group(layer, input, span.group);
  for (int64_t i = lane(); i < span.size; i += kLanes) {
    const float code = round_element<weight>(layer, input, group, span, i).code - group.bottom;
    output.codes[span.begin + i] = static_cast<uint8_t>(code);
  }
  if (output.outer_scale && lane() == 0 && index == 0) *output.outer_scale = *input.outer_scale;
  if (lane() != 0 || (layer.whole_tensor && index > 0)) return;
  store_element(layer.scale, output.scale, span.group, group.scale);
  if (output.zero_point) output.zero_point[span.group] = static_cast<uint8_t>(group.zero);
}

template <Element type>
__global__ void decode_kernel(AffineLayer layer, AffineCodes input, void* output) {
  const int64_t index = span_index();
  if (index >= affine_spans(layer)) return;
  const AffineSpan span = affine_span(layer, index);
  const float scale = load_element(layer.scale, input.scale, span.group);
  const float zero = input.zero_point ? input.zero_point[span.group] : 1 << (layer.bits - 1);
  for (int64_t i = lane(); i < span.size; i += kLanes)
    store_element(type, output, span.begin + i,
                  times_outer<type>(input.outer_scale, scale * (input.codes[span.begin + i] - zero)));
}

// Backward or sign step, as `Finish` is AffineGradients or AffineStep.
template <Element weight, typename Finish>
__global__ void gradients_kernel(AffineLayer layer, AffineInput input, AffineGradient gradient, Finish finish,
                                 AffineSums* sums) {
  const int64_t index = span_index();
  if (index >= affine_spans(layer)) return;
  const AffineSpan span = affine_span(layer, index);
  const AffineGroup group = affine_group(layer, input, span.group);
  float direct = 0.0f, clipped = 0.0f;
  for (int64_t i = lane(); i < span.size; i += kLanes) {
    const AffineRounded<float> rounded = round_element<weight>(layer, input, group, span, i);
    const float at_output = load_element(gradient.type, gradient.qdq, span.begin + i);
    const auto parts = affine_parts(group, rounded, gradient_times_outer<weight>(input.outer_scale, at_output));
    direct = direct + parts.direct;
    clipped = clipped + parts.clipped;
    finish_v(finish, span.v + i, parts.v);
  }
  for (int64_t i = span.size + lane(); i < layer.span_cols; i += kLanes) finish_padding(finish, span.v + i);
  const AffineSums total{sum_lanes(direct), sum_lanes(clipped)};
  all_have_read();
  if (lane() != 0) return;
  if (layer.whole_tensor)
    sums[index] = total;
  else
    affine_finish(finish, index, affine_range_gradients(layer, group, input.low[index], input.high[index], total));
}

template <typename Finish>
__global__ void finish_tensor_kernel(AffineLayer layer, AffineInput input, const AffineSums* sums, Finish finish) {
  float direct = 0.0f, clipped = 0.0f;
  for (int64_t i = lane(); i < affine_spans(layer); i += kLanes) {
    direct = direct + sums[i].direct;
    clipped = clipped + sums[i].clipped;
  }
  const AffineSums total{sum_lanes(direct), sum_lanes(clipped)};
  if (lane() != 0) return;
  const AffineGroup group = affine_group(layer, input, 0);
  affine_finish(finish, 0, affine_range_gradients(layer, group, input.low[0], input.high[0], total));
}

template <Element weight>
__global__ void input_gradient_kernel(AffineLayer layer, AffineInput input, AffineGradient gradient, void* output) {
  const int64_t index = span_index();
  if (index >= affine_spans(layer)) return;
  const AffineSpan span = affine_span(layer, index);
  const AffineGroup group = affine_group(layer, input, span.group);
  float direct = 0.0f, clipped = 0.0f;
  for (int64_t i = lane(); i < span.size; i += kLanes) {
    const AffineRounded<float> rounded = round_element<weight>(layer, input, group, span, i);
    const float at_output = load_element(gradient.type, gradient.qdq, span.begin + i);
    const auto parts = affine_parts(group, rounded, at_output);
    direct = direct + parts.direct;
    clipped = clipped + parts.clipped;
    store_element(weight, output, span.begin + i, keep(equal(rounded.code, rounded.shifted), at_output));
  }
  const AffineSums sums{sum_lanes(direct), sum_lanes(clipped)};
  all_have_read();
  if (lane() == 0) add_slopes(layer, input, span, affine_slopes(layer, group, sums), output);
}

template <Element weight>
__device__ AffineImportance importance_of_span(const AffineLayer& layer, const AffineSearch& input,
                                               const AffineSpan& span, const float* given) {
  if (!given) return {ImportanceKind::kNone, 0.0f};
  float channels = 0.0f, sum = 0.0f, squares = 0.0f;
  for (int64_t i = lane(); i < span.size; i += kLanes) {
    const float w = load_element(weight, input.weight, span.begin + i);
    channels = channels + keep(greater(given[i], kNoImportance), 1.0f);
    sum = sum + given[i];
    squares = squares + round_to<weight>(w * w);
  }
  return affine_importance<weight>(layer, span.size, from_lane_0(sum_lanes(channels)), from_lane_0(sum_lanes(sum)),
                                   from_lane_0(sum_lanes(squares)));
}

template <Element weight>
__global__ void search_kernel(AffineLayer layer, AffineSearch input, float* low, float* high) {
  const int64_t index = span_index();
  if (index >= affine_spans(layer)) return;
  const AffineSpan span = affine_span(layer, index);
  const float* given =
      input.importance ? input.importance + index % affine_spans_per_row(layer) * layer.span_cols : nullptr;
  const float extreme = affine_extreme(layer, input.weight, span, low[index], high[index]);
  if (!(extreme == extreme)) return;  // NaN stays NaN
  const AffineImportance importance = importance_of_span<weight>(layer, input, span, given);
  const float reciprocal = guarded_reciprocal<weight>(extreme);
  float best_scale = 0.0f, best = 0.0f;  // of lane 0
  for (int candidate = 0; candidate < affine_candidates(layer); ++candidate) {
    const float inverse = round_to<weight>(affine_candidate(layer, candidate) * reciprocal);
    const float scale = guarded_reciprocal<weight>(inverse);
    float errors = 0.0f;
    for (int64_t i = lane(); i < span.size; i += kLanes) {
      const float w = load_element(weight, input.weight, span.begin + i);
      float error = affine_error<weight>(layer, inverse, scale, w);
      if (importance.kind == ImportanceKind::kGiven)
        error = error * importance_of<ImportanceKind::kGiven, weight>(importance, given[i], w);
      else if (importance.kind == ImportanceKind::kMagnitude)
        error = error * importance_of<ImportanceKind::kMagnitude, weight>(importance, given[i], w);
      errors = errors + error;
    }
    const float total = sum_lanes(errors);
    if (candidate > 0 && !(total < best)) continue;
    best = total;
    best_scale = scale;
  }
  all_have_read();
  if (lane() == 0) affine_range_of_scale(layer, best_scale, low[index], high[index]);
}

template <Element weight>
__global__ void progressive_kernel(AffineLayer layer, AffineProgressive args) {
  const int64_t index = span_index();
  if (index >= affine_spans(layer)) return;
  const float scale = progressive_scale(args);
  if (index == 0 && lane() == 0) *args.outer_scale = scale;
  const AffineSpan span = affine_span(layer, index);
  for (int64_t i = lane(); i < span.size; i += kLanes) progressive_round<weight>(args, scale, span.begin + i);
}

template <typename Launch>
const char* run(const AffineCuda& where, const AffineLayer& layer, Launch&& launch) {
  return run_spans(where.device, where.stream, affine_spans(layer), launch);
}

template <typename Finish>
const char* run_gradients(const AffineCuda& where, const AffineLayer& layer, const AffineInput& input,
                          const AffineGradient& gradient, const Finish& finish, AffineSums* sums) {
  return run(where, layer, [&](unsigned blocks, cudaStream_t stream) {
    with_element(layer.weight, [&](auto weight) {
      gradients_kernel<weight.value><<<blocks, kThreads, 0, stream>>>(layer, input, gradient, finish, sums);
    });
    if (layer.whole_tensor) finish_tensor_kernel<<<1, kLanes, 0, stream>>>(layer, input, sums, finish);
  });
}

}  // namespace

const char* AffineCuda::range(const AffineLayer& layer, const void* weight, float* low, float* high,
                              float* workspace) const {
  return run(*this, layer, [&](unsigned blocks, cudaStream_t stream) {
    const int64_t spans = affine_spans(layer);
    float* span_low = layer.whole_tensor ? workspace : low;
    float* span_high = layer.whole_tensor ? workspace + spans : high;
    range_kernel<<<blocks, kThreads, 0, stream>>>(layer, weight, span_low, span_high);
    if (layer.whole_tensor) range_tensor_kernel<<<1, kLanes, 0, stream>>>(spans, span_low, span_high, low, high);
  });
}

const char* AffineCuda::forward(const AffineLayer& layer, const AffineInput& input, const AffineOutput& output) const {
  return run(*this, layer, [&](unsigned blocks, cudaStream_t stream) {
    with_element(layer.weight, [&](auto weight) {
      forward_kernel<weight.value><<<blocks, kThreads, 0, stream>>>(layer, input, output);
    });
  });
}

const char* AffineCuda::encode(const AffineLayer& layer, const AffineInput& input, const AffineCodes& output) const {
  return run(*this, layer, [&](unsigned blocks, cudaStream_t stream) {
    with_element(layer.weight, [&](auto weight) {
      encode_kernel<weight.value><<<blocks, kThreads, 0, stream>>>(layer, input, output);
    });
  });
}

const char* AffineCuda::decode(const AffineLayer& layer, const AffineCodes& input, void* output, Element type) const {
  return run(*this, layer, [&](unsigned blocks, cudaStream_t stream) {
    with_element(type, [&](auto t) { decode_kernel<t.value><<<blocks, kThreads, 0, stream>>>(layer, input, output); });
  });
}

const char* AffineCuda::backward(const AffineLayer& layer, const AffineInput& input, const AffineGradient& gradient,
                                 const AffineGradients& output, AffineSums* sums) const {
  return run_gradients(*this, layer, input, gradient, output, sums);
}

const char* AffineCuda::sign_step(const AffineLayer& layer, const AffineInput& input, const AffineGradient& gradient,
                                  const AffineStep& step, AffineSums* sums) const {
  return run_gradients(*this, layer, input, gradient, step, sums);
}

const char* AffineCuda::input_gradient(const AffineLayer& layer, const AffineInput& input,
                                       const AffineGradient& gradient, void* output) const {
  return run(*this, layer, [&](unsigned blocks, cudaStream_t stream) {
    with_element(layer.weight, [&](auto weight) {
      input_gradient_kernel<weight.value><<<blocks, kThreads, 0, stream>>>(layer, input, gradient, output);
    });
  });
}

const char* AffineCuda::search(const AffineLayer& layer, const AffineSearch& input, float* low, float* high) const {
  return run(*this, layer, [&](unsigned blocks, cudaStream_t stream) {
    with_element(layer.weight, [&](auto weight) {
      search_kernel<weight.value><<<blocks, kThreads, 0, stream>>>(layer, input, low, high);
    });
  });
}

const char* AffineCuda::progressive(const AffineLayer& layer, const AffineProgressive& args) const {
  return run(*this, layer, [&](unsigned blocks, cudaStream_t stream) {
    with_element(layer.weight,
                 [&](auto weight) { progressive_kernel<weight.value><<<blocks, kThreads, 0, stream>>>(layer, args); });
  });
}

}  // namespace roundhouse::kernels
