// SPDX-License-Identifier: Apache-2.0
// Two threads a group of 16 or 32 columns, each with kTogether of every kLanes elements, as kernels/cuda/launch.cuh says.
// A block's groups are neighbours in one warp and tell each other what their block shares.
#include "kernels/cuda/ggml.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/ggml_math.h"

namespace roundhouse::kernels {
namespace {

constexpr int kGroupThreads = kLanes / kTogether;

// A block has 2^block_bits.
struct Groups {
  int64_t count;
  int block_bits;
};

// Where a thread's group lies.
struct Place {
  int64_t group, block;
  int of_block;  // the group's number in the block
  int groups;    // of a block
  int64_t begin, end;

  __device__ Place(const GgmlLayer& layer, const Groups& all) : groups(1 << all.block_bits) {
    group = span_index<kGroupThreads>();
    of_block = static_cast<int>(group) & (groups - 1);
    block = group >> all.block_bits;
    begin = group * layer.group_cols + place<kGroupThreads>() * kTogether;
    end = (group + 1) * layer.group_cols;
  }
  __device__ bool first() const { return place<kGroupThreads>() == 0; }
  // Of another group of the block.
  __device__ float from(int other, float x) const {
    return __shfl_sync(kWarp, x, other * kGroupThreads, groups * kGroupThreads);
  }
};

// The first group of largest size, as a scan finds it: a NaN is no larger than anything, but a first one stays.
__device__ GgmlSuper super_of(const GgmlLayer& layer, const Place& at, float x) {
  float largest = ggml_super_size(layer, x);
  if (largest != largest) largest = bits_float(at.of_block == 0 ? 0x7f800000u : 0xff800000u);
  int extreme = at.of_block;
  for (int half = at.groups / 2; half > 0; half /= 2) {
    const float other = __shfl_xor_sync(kWarp, largest, half * kGroupThreads, at.groups * kGroupThreads);
    const int whose = __shfl_xor_sync(kWarp, extreme, half * kGroupThreads, at.groups * kGroupThreads);
    if (other > largest || (other == largest && whose < extreme)) {
      largest = other;
      extreme = whose;
    }
  }
  return ggml_super(layer, extreme, at.from(extreme, x));
}

// What a group has of its block.
struct Share {
  GgmlGroup group;           // not searched
  GgmlSuper scales, minima;  // of a block of several groups, not searched
  float d, dmin, scale, minimum;
};

__device__ Share share_of(const GgmlLayer& layer, const GgmlInput& input, const Place& at) {
  Share out{};
  float scale_code = 1.0f, minimum_code = 1.0f;
  if (layer.searched) {
    out.d = ggml_unit(layer, input.d[at.block]);
    out.dmin = ggml_unit(layer, input.dmin[at.block]);
    scale_code = input.scale_code[at.group];
    minimum_code = input.minimum_code[at.group];
  } else {
    out.group = ggml_group(layer, input, at.group);
    if (layer.super_bits == 0) {
      const auto single = ggml_single(layer, out.group);
      out.d = out.scale = single.scale;
      out.dmin = out.minimum = single.minimum;
      return out;
    }
    const float minimum = layer.symmetric ? 0.0f : out.group.minimum;
    out.scales = super_of(layer, at, out.group.scale);
    out.minima = layer.symmetric ? ggml_super(layer, 0, minimum) : super_of(layer, at, minimum);
    scale_code = ggml_super_code(layer, out.scales, out.group.scale);
    minimum_code = ggml_super_code(layer, out.minima, minimum);
    out.d = ggml_unit(layer, out.scales.unit);
    out.dmin = ggml_unit(layer, out.minima.unit);
  }
  out.scale = scale_code * out.d;
  out.minimum = minimum_code * out.dmin;
  if (!layer.searched && ggml_holds(layer)) {
    out.scale = max_of(out.scale, layer.scale_threshold);
    out.d = max_of(out.d, layer.scale_threshold);
    out.dmin = max_of(out.dmin, layer.scale_threshold);
  }
  return out;
}

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

// A thread a block.
__global__ void check_kernel(GgmlLayer layer, GgmlInput input, uint32_t* status) {
  const int64_t index = thread_index();
  if (index >= ggml_blocks(layer)) return;
  const int groups = ggml_block_groups(layer);
  for (int64_t i = index * groups; i < (index + 1) * groups; ++i)
    if (!is_finite(input.low[i] + input.high[i])) return tell(status, kNotFinite);
  GgmlBlock block;
  ggml_block(layer, input, index, block);
  if (!is_finite(block.d) || !is_finite(block.dmin)) tell(status, kScaleRange);
}

// launch(groups, blocks of threads, stream), when tensors are aligned.
template <typename Launch>
const char* run(const GgmlCuda& where, const GgmlLayer& layer, std::initializer_list<const void*> tensors,
                Launch&& launch) {
  if (!together(layer.group_cols, tensors)) return "a tensor is not aligned to 16 bytes";
  Groups groups{ggml_groups(layer), 0};
  while (1 << groups.block_bits < ggml_block_groups(layer)) ++groups.block_bits;
  return run_spans(where.device, where.stream, groups.count,
                   [&](cudaStream_t stream) { launch(groups, blocks_of(groups.count * kGroupThreads), stream); });
}

template <typename Finish>
const char* run_gradients(const GgmlCuda& where, const GgmlLayer& layer, const GgmlInput& input,
                          const OutputGradient& gradient, const Finish& finish) {
  return run(where, layer, {input.weight, input.v, gradient.qdq, finish.v},
             [&](const Groups& groups, unsigned blocks, cudaStream_t stream) {
               with_element(layer.weight, [&](auto weight) {
                 gradients_kernel<weight.value>
                     <<<blocks, kThreads, 0, stream>>>(layer, groups, input, gradient, finish);
               });
             });
}

}  // namespace

const char* GgmlCuda::range(const GgmlLayer& layer, const void* weight, float* low, float* high) const {
  return run(*this, layer, {}, [&](const Groups& groups, unsigned blocks, cudaStream_t on) {
    range_kernel<<<blocks, kThreads, 0, on>>>(layer, groups, weight, low, high);
  });
}

const char* GgmlCuda::check(const GgmlLayer& layer, const GgmlInput& input, uint32_t* status) const {
  return run_spans(device, stream, ggml_blocks(layer), [&](cudaStream_t on) {
    if (status) check_kernel<<<blocks_of(ggml_blocks(layer)), kThreads, 0, on>>>(layer, input, status);
  });
}

const char* GgmlCuda::forward(const GgmlLayer& layer, const GgmlInput& input, const GgmlOutput& output) const {
  return run(*this, layer, {input.weight, input.v, output.qdq},
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
