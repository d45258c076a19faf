// SPDX-License-Identifier: Apache-2.0
// Spans are dealt to threads as kernels/cuda/launch.cuh says; kernels that take T and W have T threads a span and W
// elements together, where they have sums T * W = kLanes.
#include <algorithm>

#include "kernels/affine_math.h"
#include "kernels/affine_search.h"
#include "kernels/cuda/affine.h"
#include "kernels/cuda/launch.cuh"

namespace roundhouse::kernels {
namespace {

// A range that grows, as a thread sees it, then of a span's T threads.
struct Range {
  float low = 0.0f, high = 0.0f, finite = 0.0f;

  __device__ void add(float smallest, float largest) {
    low = min_of(smallest, low);
    high = max_of(largest, high);
    finite = finite + (smallest - smallest);  // NaN from the first NaN or infinity on
  }
  // Valid in the first thread.
  template <int T>
  __device__ void store(float* to_low, float* to_high, int64_t index) {
    finite = nan_of_threads<T>(finite);
    low = finite + smallest_of_threads<T>(low);
    high = finite + largest_of_threads<T>(high);
    all_have_read();
    if (place<T>() != 0) return;
    to_low[index] = low;
    to_high[index] = high;
  }
};

template <Element weight, int T, int W>
__global__ void range_kernel(AffineLayer layer, Spans spans, const void* weights, float* low, float* high) {
  const int64_t index = span_index<T>();
  if (index >= spans.count) return;
  const AffineSpan span = affine_span(layer, index, spans.per_row);
  Range range;
  for (int64_t i = place<T>() * W; i < span.size; i += T * W) {
    float w[W];
    load_elements<weight>(weights, span.begin + i, w);
    for (int k = 0; k < W; ++k) range.add(w[k], w[k]);
  }
  range.store<T>(low, high, index);
}

// Every parts-th range, kLanes threads a part, over the first `parts` of them or into others.
__global__ void range_of_ranges_kernel(int64_t count, int64_t parts, const float* low, const float* high, float* to_low,
                                       float* to_high) {
  const int64_t part = span_index<kLanes>();
  if (part >= parts) return;
  Range range;
  for (int64_t i = part + place<kLanes>() * parts; i < count; i += kLanes * parts) range.add(low[i], high[i]);
  range.store<kLanes>(to_low, to_high, part);
}

// A thread a group.
__global__ void check_kernel(AffineLayer layer, const float* low, const float* high, uint32_t* status) {
  const int64_t group = thread_index();
  if (group >= affine_groups(layer)) return;
  if (is_finite(affine_group(layer, low[group], high[group], 1.0f, 1.0f).scale)) return;
  tell(status, is_finite(low[group] + high[group]) ? kScaleRange : kNotFinite);
}

template <Element weight, int W>
__device__ void round_elements(const AffineLayer& layer, const AffineInput& input, const AffineGroup& group,
                               const AffineSpan& span, int64_t i, AffineRounded<float> (&out)[W]) {
  float w[W], v[W];
  load_elements<weight>(input.weight, span.begin + i, w);
  if (input.v) load_elements<Element::kF32>(input.v, span.v + i, v);
  for (int k = 0; k < W; ++k) {
    const float quotient = affine_quotient<weight>(layer, w[k], group.scale);
    out[k] = affine_round(group, quotient, input.v ? quotient + v[k] : quotient);
  }
}

// Of every span that is the first of its group; the outer scale is the first span's.
__device__ bool stores_group(const AffineLayer& layer, int64_t index, int place) {
  return place == 0 && (!layer.whole_tensor || index == 0);
}

template <Element weight, int T, int W>
__global__ void forward_kernel(AffineLayer layer, Spans spans, AffineInput input, AffineOutput output) {
  const int64_t index = span_index<T>();
  if (index >= spans.count) return;
  const AffineSpan span = affine_span(layer, index, spans.per_row);
  const AffineGroup group = affine_group(layer, input, span.group);
  for (int64_t i = place<T>() * W; i < span.size && output.qdq; i += T * W) {
    AffineRounded<float> rounded[W];
    round_elements<weight>(layer, input, group, span, i, rounded);
    float value[W];
    for (int k = 0; k < W; ++k) value[k] = times_outer<weight>(input.outer_scale, affine_value(group, rounded[k].code));
    store_rounded<weight>(output.qdq_type, output.qdq, span.begin + i, value);
  }
  if (!stores_group(layer, index, place<T>())) return;
  if (output.outer_scale && index == 0) *output.outer_scale = *input.outer_scale;
  if (output.scale)
    store_element(layer.scale, output.scale, span.group, group.scale * (input.outer_scale ? *input.outer_scale : 1));
  if (output.zero_point) output.zero_point[span.group] = group.zero;
}

template <Element weight>
__global__ void encode_kernel(AffineLayer layer, Spans spans, AffineInput input, AffineCodes output) {
  const int64_t index = span_index<kLanes>();
  if (index >= spans.count) return;
  const AffineSpan span = affine_span(layer, index, spans.per_row);
  const AffineGroup group = affine_group(layer, input, span.group);
  for (int64_t i = place<kLanes>(); i < span.size; i += kLanes) {
    AffineRounded<float> rounded[1];
    round_elements<weight>(layer, input, group, span, i, rounded);
    output.codes[span.begin + i] = static_cast<uint8_t>(rounded[0].code - group.bottom);
  }
  if (!stores_group(layer, index, place<kLanes>())) return;
  if (output.outer_scale && index == 0) *output.outer_scale = *input.outer_scale;
  store_element(layer.scale, output.scale, span.group, group.scale);
  if (output.zero_point) output.zero_point[span.group] = static_cast<uint8_t>(group.zero);
}

template <Element type>
__global__ void decode_kernel(AffineLayer layer, Spans spans, AffineCodes input, void* output) {
  const int64_t index = span_index<kLanes>();
  if (index >= spans.count) return;
  const AffineSpan span = affine_span(layer, index, spans.per_row);
  const float scale = load_element(layer.scale, input.scale, span.group);
  const float zero = input.zero_point ? input.zero_point[span.group] : 1 << (layer.bits - 1);
  for (int64_t i = place<kLanes>(); i < span.size; i += kLanes)
    store_element(type, output, span.begin + i,
                  times_outer<type>(input.outer_scale, scale * (input.codes[span.begin + i] - zero)));
}

// Backward or sign step, as `Finish` is AffineGradients or AffineStep.
template <Element weight, int T, int W, typename Finish>
__global__ void gradients_kernel(AffineLayer layer, Spans spans, AffineInput input, AffineGradient gradient,
                                 Finish finish, AffineSums* sums) {
  const int64_t index = span_index<T>();
  if (index >= spans.count) return;
  const AffineSpan span = affine_span(layer, index, spans.per_row);
  const AffineGroup group = affine_group(layer, input, span.group);
  float direct[W] = {}, clipped[W] = {};
  for (int64_t i = place<T>() * W; i < span.size; i += kLanes) {
    AffineRounded<float> rounded[W];
    round_elements<weight>(layer, input, group, span, i, rounded);
    float at_output[W], of_v[W];
    load_elements(gradient.type, gradient.qdq, span.begin + i, at_output);
    for (int k = 0; k < W; ++k) {
      const auto parts = affine_parts(group, rounded[k], gradient_times_outer<weight>(input.outer_scale, at_output[k]));
      direct[k] = direct[k] + parts.direct;
      clipped[k] = clipped[k] + parts.clipped;
      of_v[k] = parts.v;
    }
    finish_v(finish, span.v + i, of_v);
  }
  for (int64_t i = span.size + place<T>(); i < layer.span_cols; i += T) finish_padding(finish, span.v + i);
  const AffineSums total{sum_lanes(direct), sum_lanes(clipped)};
  all_have_read();
  if (place<T>() != 0) return;
  if (layer.whole_tensor)
    sums[index] = total;
  else
    affine_finish(finish, index, affine_range_gradients(layer, group, input.low[index], input.high[index], total));
}

template <typename Finish>
__global__ void finish_tensor_kernel(AffineLayer layer, Spans spans, AffineInput input, const AffineSums* sums,
                                     Finish finish) {
  float direct[1] = {}, clipped[1] = {};
#pragma unroll 8
  for (int64_t i = place<kLanes>(); i < spans.count; i += kLanes) {
    direct[0] = direct[0] + sums[i].direct;
    clipped[0] = clipped[0] + sums[i].clipped;
  }
  const AffineSums total{sum_lanes(direct), sum_lanes(clipped)};
  if (place<kLanes>() != 0) return;
  const AffineGroup group = affine_group(layer, input, 0);
  affine_finish(finish, 0, affine_range_gradients(layer, group, input.low[0], input.high[0], total));
}

// The first of a span's elements that is its smallest or its largest, found by its threads.
struct FirstOf {
  int32_t at = INT32_MAX;

  __device__ void see(bool found, int64_t i) {
    if (found && at == INT32_MAX) at = static_cast<int32_t>(i);
  }
  template <int T>
  __device__ void fold() {
    for (int half = T / 2; half > 0; half /= 2) {
      const int32_t other = __shfl_down_sync(kWarp, at, half, T);
      at = other < at ? other : at;
    }
  }
};

template <Element weight, int T, int W>
__global__ void input_gradient_kernel(AffineLayer layer, Spans spans, AffineInput input, AffineGradient gradient,
                                      void* output) {
  const int64_t index = span_index<T>();
  if (index >= spans.count) return;
  const AffineSpan span = affine_span(layer, index, spans.per_row);
  const AffineGroup group = affine_group(layer, input, span.group);
  const float smallest = input.low[span.group], largest = input.high[span.group];
  float direct[W] = {}, clipped[W] = {};
  FirstOf low, high;
  for (int64_t i = place<T>() * W; i < span.size; i += kLanes) {
    AffineRounded<float> rounded[W];
    round_elements<weight>(layer, input, group, span, i, rounded);
    float w[W], at_output[W], through[W];
    load_elements<weight>(input.weight, span.begin + i, w);
    load_elements(gradient.type, gradient.qdq, span.begin + i, at_output);
    for (int k = 0; k < W; ++k) {
      const auto parts = affine_parts(group, rounded[k], at_output[k]);
      direct[k] = direct[k] + parts.direct;
      clipped[k] = clipped[k] + parts.clipped;
      through[k] = keep(equal(rounded[k].code, rounded[k].shifted), at_output[k]);
      low.see(w[k] == smallest, i + k);
      high.see(w[k] == largest, i + k);
    }
    store_elements<weight>(output, span.begin + i, through);
  }
  low.fold<T>();
  high.fold<T>();
  const AffineSums sums{sum_lanes(direct), sum_lanes(clipped)};
  all_have_read();
  if (place<T>() == 0) add_slopes<weight>(span, affine_slopes(layer, group, sums), low.at, high.at, output);
}

template <Element weight>
__device__ AffineImportance importance_of_span(const AffineLayer& layer, const AffineSearch& input,
                                               const AffineSpan& span, const float* given) {
  if (!given) return {ImportanceKind::kNone, 0.0f};
  float channels[1] = {}, sum[1] = {}, squares[1] = {};
  for (int64_t i = place<kLanes>(); i < span.size; i += kLanes) {
    const float w = load_element(weight, input.weight, span.begin + i);
    channels[0] = channels[0] + keep(greater(given[i], kNoImportance), 1.0f);
    sum[0] = sum[0] + given[i];
    squares[0] = squares[0] + round_to<weight>(w * w);
  }
  return affine_importance<weight>(layer, span.size, from_first<kLanes>(sum_lanes(channels)),
                                   from_first<kLanes>(sum_lanes(sum)), from_first<kLanes>(sum_lanes(squares)));
}

// Sums over a span, valid in the first thread, error_of(w) with its importance.
template <Element weight, typename Error>
__device__ float importance_weighted(const AffineSearch& input, const AffineSpan& span, const float* given,
                                     AffineImportance importance, Error&& error_of) {
  float errors[1] = {};
  for (int64_t i = place<kLanes>(); i < span.size; i += kLanes) {
    const float w = load_element(weight, input.weight, span.begin + i);
    float error = error_of(w);
    if (importance.kind == ImportanceKind::kGiven)
      error = error * importance_of<ImportanceKind::kGiven, weight>(importance, given[i], w);
    else if (importance.kind == ImportanceKind::kMagnitude)
      error = error * importance_of<ImportanceKind::kMagnitude, weight>(importance, given[i], w);
    errors[0] = errors[0] + error;
  }
  return sum_lanes(errors);
}

template <Element weight>
__global__ void search_kernel(AffineLayer layer, Spans spans, AffineSearch input, float* low, float* high) {
  const int64_t index = span_index<kLanes>();
  if (index >= spans.count) return;
  const AffineSpan span = affine_span(layer, index, spans.per_row);
  const float* given = input.importance ? input.importance + index % spans.per_row * layer.span_cols : nullptr;
  const float plain_low = low[index], plain_high = high[index];
  if (!(plain_low == plain_low)) return;  // NaN stays NaN
  const AffineImportance importance = importance_of_span<weight>(layer, input, span, given);
  float best_low = plain_low, best_high = plain_high, best = 0.0f;  // of the first thread
  const float extreme = layer.symmetric ? affine_extreme(layer, input.weight, span, plain_low, plain_high) : 0.0f;
  const float reciprocal = guarded_reciprocal<weight>(extreme);
  const int candidates = layer.symmetric ? affine_candidates(layer) : 1 + kAffineRanges;
  for (int candidate = 0; candidate < candidates; ++candidate) {
    float to_low = plain_low, to_high = plain_high, total;
    if (layer.symmetric) {
      const float inverse = round_to<weight>(affine_candidate(layer, candidate) * reciprocal);
      const float scale = guarded_reciprocal<weight>(inverse);
      total = importance_weighted<weight>(input, span, given, importance,
                                          [&](float w) { return affine_error<weight>(layer, inverse, scale, w); });
      affine_range_of_scale(layer, scale, to_low, to_high);
    } else {
      const AffineGroup group = candidate == 0 ? affine_group(layer, to_low, to_high, 1.0f, 1.0f)
                                               : affine_range_candidate(layer, candidate - 1, to_low, to_high);
      total = importance_weighted<weight>(input, span, given, importance,
                                          [&](float w) { return affine_group_error<weight>(layer, group, w); });
    }
    if (candidate > 0 && !(total < best)) continue;
    best = total;
    best_low = to_low;
    best_high = to_high;
  }
  all_have_read();
  if (place<kLanes>() != 0) return;
  low[index] = best_low;
  high[index] = best_high;
}

template <Element weight>
__global__ void progressive_kernel(AffineLayer layer, Spans spans, AffineProgressive args) {
  const int64_t index = span_index<kLanes>();
  if (index >= spans.count) return;
  const float scale = progressive_scale(args);
  if (index == 0 && place<kLanes>() == 0) *args.outer_scale = scale;
  const AffineSpan span = affine_span(layer, index, spans.per_row);
  for (int64_t i = place<kLanes>(); i < span.size; i += kLanes) progressive_round<weight>(args, scale, span.begin + i);
}

template <typename Launch>
const char* run(const AffineCuda& where, const AffineLayer& layer, Launch&& launch) {
  const Spans spans{affine_spans(layer), affine_spans_per_row(layer)};
  return run_spans(where.device, where.stream, spans.count, [&](cudaStream_t stream) { launch(spans, stream); });
}

// Whether rows and spans are whole eights, and the tensors are aligned.
bool together(const AffineLayer& layer, std::initializer_list<const void*> tensors) {
  return together(layer.cols | layer.span_cols, tensors);
}

template <typename Finish>
const char* run_gradients(const AffineCuda& where, const AffineLayer& layer, const AffineInput& input,
                          const AffineGradient& gradient, const Finish& finish, AffineSums* sums) {
  return run(where, layer, [&](const Spans& spans, cudaStream_t stream) {
    with_element(layer.weight, [&](auto weight) {
      with_sums(together(layer, {input.weight, input.v, gradient.qdq, finish.v}), layer.span_cols, [&](auto t, auto w) {
        gradients_kernel<weight.value, t.value, w.value>
            <<<blocks_of(spans.count * t.value), kThreads, 0, stream>>>(layer, spans, input, gradient, finish, sums);
      });
    });
    if (layer.whole_tensor) finish_tensor_kernel<<<1, kLanes, 0, stream>>>(layer, spans, input, sums, finish);
  });
}

}  // namespace

const char* AffineCuda::range(const AffineLayer& layer, const void* weight, float* low, float* high,
                              float* workspace) const {
  return run(*this, layer, [&](const Spans& spans, cudaStream_t stream) {
    float* span_low = layer.whole_tensor ? workspace : low;
    float* span_high = layer.whole_tensor ? workspace + spans.count : high;
    with_element(layer.weight, [&](auto element) {
      without_sums(together(layer, {weight}), layer.span_cols, [&](auto t, auto w) {
        range_kernel<element.value, t.value, w.value>
            <<<blocks_of(spans.count * t.value), kThreads, 0, stream>>>(layer, spans, weight, span_low, span_high);
      });
    });
    if (!layer.whole_tensor) return;
    // A part reads every parts-th range and writes the first of them.
    const int64_t parts = std::max<int64_t>(1, std::min<int64_t>(spans.count / kLanes, 1024));
    if (parts > 1)
      range_of_ranges_kernel<<<blocks_of(parts * kLanes), kThreads, 0, stream>>>(spans.count, parts, span_low,
                                                                                 span_high, span_low, span_high);
    range_of_ranges_kernel<<<1, kThreads, 0, stream>>>(parts > 1 ? parts : spans.count, 1, span_low, span_high, low,
                                                       high);
  });
}

const char* AffineCuda::check(const AffineLayer& layer, const float* low, const float* high, uint32_t* status) const {
  return run(*this, layer, [&](const Spans&, cudaStream_t stream) {
    if (status) check_kernel<<<blocks_of(affine_groups(layer)), kThreads, 0, stream>>>(layer, low, high, status);
  });
}

const char* AffineCuda::forward(const AffineLayer& layer, const AffineInput& input, const AffineOutput& output) const {
  return run(*this, layer, [&](const Spans& spans, cudaStream_t stream) {
    with_element(layer.weight, [&](auto weight) {
      without_sums(together(layer, {input.weight, input.v, output.qdq}), layer.span_cols, [&](auto t, auto w) {
        forward_kernel<weight.value, t.value, w.value>
            <<<blocks_of(spans.count * t.value), kThreads, 0, stream>>>(layer, spans, input, output);
      });
    });
  });
}

const char* AffineCuda::encode(const AffineLayer& layer, const AffineInput& input, const AffineCodes& output) const {
  return run(*this, layer, [&](const Spans& spans, cudaStream_t stream) {
    with_element(layer.weight, [&](auto weight) {
      encode_kernel<weight.value>
          <<<blocks_of(spans.count * kLanes), kThreads, 0, stream>>>(layer, spans, input, output);
    });
  });
}

const char* AffineCuda::decode(const AffineLayer& layer, const AffineCodes& input, void* output, Element type) const {
  return run(*this, layer, [&](const Spans& spans, cudaStream_t stream) {
    with_element(type, [&](auto element) {
      decode_kernel<element.value>
          <<<blocks_of(spans.count * kLanes), kThreads, 0, stream>>>(layer, spans, input, output);
    });
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
  return run(*this, layer, [&](const Spans& spans, cudaStream_t stream) {
    with_element(layer.weight, [&](auto weight) {
      with_sums(together(layer, {input.weight, input.v, gradient.qdq, output}), layer.span_cols, [&](auto t, auto w) {
        input_gradient_kernel<weight.value, t.value, w.value>
            <<<blocks_of(spans.count * t.value), kThreads, 0, stream>>>(layer, spans, input, gradient, output);
      });
    });
  });
}

const char* AffineCuda::search(const AffineLayer& layer, const AffineSearch& input, float* low, float* high) const {
  return run(*this, layer, [&](const Spans& spans, cudaStream_t stream) {
    with_element(layer.weight, [&](auto weight) {
      search_kernel<weight.value>
          <<<blocks_of(spans.count * kLanes), kThreads, 0, stream>>>(layer, spans, input, low, high);
    });
  });
}

const char* AffineCuda::progressive(const AffineLayer& layer, const AffineProgressive& args) const {
  return run(*this, layer, [&](const Spans& spans, cudaStream_t stream) {
    with_element(layer.weight, [&](auto weight) {
      progressive_kernel<weight.value><<<blocks_of(spans.count * kLanes), kThreads, 0, stream>>>(layer, spans, args);
    });
  });
}

}  // namespace roundhouse::kernels
