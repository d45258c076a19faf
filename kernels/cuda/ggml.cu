// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/ggml.h"
#include "kernels/cuda/ggml_groups.cuh"

namespace roundhouse::kernels {
namespace {

__global__ void range_kernel(GgmlLayer layer, Groups groups, const void* weight, float* low, float* high) {
  const int64_t group = span_index<kGroupThreads>();
  if (group >= groups.count) return;
  const int64_t end = (group + 1) * layer.group_cols;
  float lowest = 0.0f, highest = 0.0f, finite = 0.0f;
  for (int64_t i = group * layer.group_cols + place<kGroupThreads>(); i < end; i += kGroupThreads) {
    const float x = load_element(layer.weight, weight, i);
    lowest = min_of(x, lowest);
    highest = max_of(x, highest);
    finite = finite + (x - x);  // NaN from the first NaN or infinity on
  }
  finite = nan_of_threads<kGroupThreads>(finite);
  lowest = smallest_of_threads<kGroupThreads>(lowest);
  highest = largest_of_threads<kGroupThreads>(highest);
  if (place<kGroupThreads>() != 0) return;
  low[group] = finite + lowest;
  high[group] = finite + highest;
}

template <Element weight>
__device__ void round_elements(const GgmlInput& input, const GgmlRounding& group, int64_t i,
                               GgmlRounded<float> (&out)[kTogether]) {
  float w[kTogether], v[kTogether];
  load_elements<weight>(input.weight, i, w);
  if (input.v) load_elements<Element::kF32>(input.v, i, v);
  for (int k = 0; k < kTogether; ++k) {
    const float quotient = ggml_quotient(group, w[k]);
    out[k] = ggml_round(group, quotient, input.v ? quotient + v[k] : quotient);
  }
}

template <Element weight>
__global__ void forward_kernel(GgmlLayer layer, Groups groups, GgmlInput input, GgmlOutput output) {
  const Place at(layer, groups);
  if (at.group >= groups.count) return;
  const Share share = share_of(layer, input, at);
  const GgmlRounding group = ggml_rounding(layer, share.scale, share.minimum);
  for (int64_t i = at.begin; i < at.end && output.qdq; i += kLanes) {
    GgmlRounded<float> rounded[kTogether];
    round_elements<weight>(input, group, i, rounded);
    float value[kTogether];
    for (int k = 0; k < kTogether; ++k) value[k] = ggml_value(group, rounded[k].code);
    store_rounded<weight>(output.qdq_type, output.qdq, i, value);
  }
  if (!at.first()) return;
  ggml_store_parameters(layer, share.scale, share.minimum, at.group, output);
  if (at.of_block != 0) return;
  if (output.d) output.d[at.block] = share.d;
  if (output.dmin) output.dmin[at.block] = share.dmin;
}

// Of the gradient of a group's scale or minimum, that of what its integer is made from.
__device__ float through_super(const GgmlLayer& layer, const Place& at, const GgmlSuper& super, float x,
                               float gradient) {
  const GgmlSuperParts parts = ggml_super_parts(layer, super, x, gradient);
  float unit = 0.0f;
  for (int i = 0; i < at.groups; ++i) unit += at.from(i, parts.unit);
  return at.of_block == super.extreme ? parts.x + ggml_extreme_gradient(layer, super, unit) : parts.x;
}

// Backward or sign step, as `Finish` is TunableGradients or TunableStep.
template <Element weight, typename Finish>
__global__ void gradients_kernel(GgmlLayer layer, Groups groups, GgmlInput input, OutputGradient gradient,
                                 Finish finish) {
  const Place at(layer, groups);
  if (at.group >= groups.count) return;
  const Share share = share_of(layer, input, at);
  const GgmlRounding group = ggml_rounding(layer, share.scale, share.minimum);
  float directs[kTogether] = {}, clips[kTogether] = {};
  for (int64_t i = at.begin; i < at.end; i += kLanes) {
    GgmlRounded<float> rounded[kTogether];
    round_elements<weight>(input, group, i, rounded);
    float at_output[kTogether], of_v[kTogether];
    load_elements(gradient.type, gradient.qdq, i, at_output);
    for (int k = 0; k < kTogether; ++k) {
      const auto parts = ggml_parts(group, rounded[k], at_output[k]);
      directs[k] = directs[k] + parts.direct;
      clips[k] = clips[k] + parts.clipped;
      of_v[k] = parts.v;
    }
    finish_v(finish, i, of_v);
  }
  const float direct = from_first<kGroupThreads>(sum_lanes(directs));
  const float clipped = from_first<kGroupThreads>(sum_lanes(clips));
  if (!finish.min_scale && !finish.max_scale) return;
  float of_scale = ggml_scale_gradient(layer, share.group, direct, clipped), of_minimum = -clipped;
  if (layer.super_bits != 0) {
    if (ggml_holds(layer) && !(share.scale > layer.scale_threshold)) of_scale = 0.0f;
    of_scale = through_super(layer, at, share.scales, share.group.scale, of_scale);
    if (!layer.symmetric) of_minimum = through_super(layer, at, share.minima, share.group.minimum, of_minimum);
  }
  const auto of_range =
      ggml_range_gradients(layer, share.group, input.low[at.group], input.high[at.group], of_scale, of_minimum);
  all_have_read();
  if (at.first()) affine_finish(finish, at.group, of_range);
}

__global__ void check_kernel(GgmlLayer layer, Groups groups, GgmlInput input, uint32_t* status) {
  const Place at(layer, groups);
  if (at.group >= groups.count) return;
  const Share share = share_of(layer, input, at);
  const float range = input.low[at.group] + input.high[at.group];
  float finite = 0.0f;  // NaN from the first group on that is not
  for (int i = 0; i < at.groups; ++i) finite = finite + at.from(i, range - range);
  if (!at.first() || at.of_block != 0) return;
  if (!is_finite(finite))
    tell(status, kNotFinite);
  else if (!is_finite(share.d) || !is_finite(share.dmin))
    tell(status, kScaleRange);
}

template <typename Finish>
const char* run_gradients(const GgmlCuda& where, const GgmlLayer& layer, const GgmlInput& input,
                          const OutputGradient& gradient, const Finish& finish) {
  return run_groups(where, layer, {input.weight, input.v, gradient.qdq, finish.v},
                    [&](const Groups& groups, unsigned blocks, cudaStream_t stream) {
                      with_element(layer.weight, [&](auto weight) {
                        gradients_kernel<weight.value>
                            <<<blocks, kThreads, 0, stream>>>(layer, groups, input, gradient, finish);
                      });
                    });
}

}  // namespace

const char* GgmlCuda::range(const GgmlLayer& layer, const void* weight, float* low, float* high) const {
  return run_groups(*this, layer, {}, [&](const Groups& groups, unsigned blocks, cudaStream_t on) {
    range_kernel<<<blocks, kThreads, 0, on>>>(layer, groups, weight, low, high);
  });
}

const char* GgmlCuda::check(const GgmlLayer& layer, const GgmlInput& input, uint32_t* status) const {
  if (!status) return nullptr;
  return run_groups(*this, layer, {}, [&](const Groups& groups, unsigned blocks, cudaStream_t on) {
    check_kernel<<<blocks, kThreads, 0, on>>>(layer, groups, input, status);
  });
}

const char* GgmlCuda::forward(const GgmlLayer& layer, const GgmlInput& input, const GgmlOutput& output) const {
  return run_groups(*this, layer, {input.weight, input.v, output.qdq},
                    [&](const Groups& groups, unsigned blocks, cudaStream_t on) {
                      with_element(layer.weight, [&](auto weight) {
                        forward_kernel<weight.value><<<blocks, kThreads, 0, on>>>(layer, groups, input, output);
                      });
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
