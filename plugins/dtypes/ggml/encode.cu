// SPDX-License-Identifier: Apache-2.0
#include "block_layout.h"
#include "encode_cuda.h"
#include "kernels/cuda/ggml_groups.cuh"

namespace roundhouse::ggml {

using namespace kernels;

namespace {

// Groups round their columns, as in kernels/cuda/ggml.cu; the first thread of each block packs what all left in the shared
// memory.
template <BlockType type>
__global__ void encode_kernel(GgmlLayer layer, Groups groups, GgmlInput input, uint8_t* blocks) {
  constexpr int kGroups = kThreads / kGroupThreads;
  __shared__ uint8_t codes[kGroups * kMostGroupCols];
  __shared__ float scale_code[kGroups], minimum_code[kGroups];
  const Place at(layer, groups);
  if (at.group >= groups.count) return;
  const Share share = share_of(layer, input, at);
  const GgmlRounding group = ggml_rounding(layer, share.scale, share.minimum);
  const int here = threadIdx.x / kGroupThreads;
  uint8_t* code = codes + here * layer.group_cols + place<kGroupThreads>() * kTogether;
  for (int64_t i = at.begin; i < at.end; i += kLanes, code += kLanes) {
    float w[kTogether], v[kTogether] = {};
    load_elements(layer.weight, input.weight, i, w);
    if (input.v) load_elements<Element::kF32>(input.v, i, v);
    for (int k = 0; k < kTogether; ++k) {
      const float quotient = ggml_quotient(group, w[k]);
      code[k] = static_cast<uint8_t>(ggml_round(group, quotient, input.v ? quotient + v[k] : quotient).code);
    }
  }
  if (at.first()) {
    scale_code[here] = share.scale_code;
    minimum_code[here] = share.minimum_code;
  }
  __syncwarp(kWarp);
  if (!at.first() || at.of_block != 0) return;
  constexpr BlockFacts kFacts = facts(type);
  pack_block(type, {share.d, share.dmin, scale_code + here, minimum_code + here}, codes + here * layer.group_cols,
             blocks + at.block * kFacts.block_bytes);
}

}  // namespace

const char* encode_cuda(const GgmlCuda& where, BlockType type, const GgmlLayer& layer, const GgmlInput& input,
                        uint8_t* blocks) {
  return run_groups(where, layer, {input.weight, input.v},
                    [&](const Groups& groups, unsigned thread_blocks, cudaStream_t stream) {
                      rh::ggml::with_type(static_cast<int>(type), [&](auto known) {
                        constexpr auto kType = static_cast<BlockType>(known());
                        encode_kernel<kType><<<thread_blocks, kThreads, 0, stream>>>(layer, groups, input, blocks);
                      });
                    });
}

}  // namespace roundhouse::ggml
