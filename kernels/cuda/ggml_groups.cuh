// SPDX-License-Identifier: Apache-2.0
// How ggml's blocks are dealt to threads: two a group of 16 or 32 columns, each with kTogether of every kLanes elements, as
// kernels/cuda/launch.cuh says. A block's groups are neighbours in one warp and tell each other what their block shares.
// Everything is local to its source.
#pragma once

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
  float scale_code, minimum_code;  // 1 where a block is one group
};

__device__ Share share_of(const GgmlLayer& layer, const GgmlInput& input, const Place& at) {
  Share out{};
  out.scale_code = out.minimum_code = 1.0f;
  if (layer.searched) {
    out.d = ggml_unit(layer, input.d[at.block]);
    out.dmin = ggml_unit(layer, input.dmin[at.block]);
    out.scale_code = input.scale_code[at.group];
    out.minimum_code = input.minimum_code[at.group];
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
    out.scale_code = ggml_super_code(layer, out.scales, out.group.scale);
    out.minimum_code = ggml_super_code(layer, out.minima, minimum);
    out.d = ggml_unit(layer, out.scales.unit);
    out.dmin = ggml_unit(layer, out.minima.unit);
  }
  out.scale = out.scale_code * out.d;
  out.minimum = out.minimum_code * out.dmin;
  if (!layer.searched && ggml_holds(layer)) {
    out.scale = max_of(out.scale, layer.scale_threshold);
    out.d = max_of(out.d, layer.scale_threshold);
    out.dmin = max_of(out.dmin, layer.scale_threshold);
  }
  return out;
}

// launch(groups, blocks of threads, stream), when tensors are aligned.
template <typename Launch>
const char* run_groups(const GgmlCuda& where, const GgmlLayer& layer, std::initializer_list<const void*> tensors,
                       Launch&& launch) {
  if (!together(layer.group_cols, tensors)) return "a tensor is not aligned to 16 bytes";
  Groups groups{ggml_groups(layer), 0};
  while (1 << groups.block_bits < ggml_block_groups(layer)) ++groups.block_bits;
  return run_spans(where.device, where.stream, groups.count,
                   [&](cudaStream_t stream) { launch(groups, blocks_of(groups.count * kGroupThreads), stream); });
}

}  // namespace
}  // namespace roundhouse::kernels
