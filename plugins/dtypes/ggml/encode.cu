// SPDX-License-Identifier: Apache-2.0
#include "block_layout.h"
#include "encode_cuda.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/ggml_math.h"

namespace roundhouse::ggml {

using namespace kernels;

namespace {

// A thread a block: encoding happens once, rounding at every iteration.
__global__ void encode_kernel(BlockType type, GgmlLayer layer, GgmlInput input, uint8_t* blocks) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= ggml_blocks(layer)) return;
  GgmlBlock block;
  ggml_block(layer, input, index, block);
  uint8_t codes[kMostBlockCols];
  for (int j = 0; j < layer.block_cols; ++j) {
    const int g = j / layer.group_cols;
    const int64_t i = index * layer.block_cols + j;
    const GgmlRounding group = ggml_rounding(layer, block.scale[g], block.minimum[g]);
    const float quotient = ggml_quotient(group, load_element(layer.weight, input.weight, i));
    codes[j] = static_cast<uint8_t>(ggml_round(group, quotient, input.v ? quotient + input.v[i] : quotient).code);
  }
  pack_block(type, block, codes, blocks + index * facts(type).block_bytes);
}

}  // namespace

const char* encode_cuda(const GgmlCuda& where, BlockType type, const GgmlLayer& layer, const GgmlInput& input,
                        uint8_t* blocks) {
  return run_spans(where.device, where.stream, ggml_blocks(layer), [&](cudaStream_t stream) {
    encode_kernel<<<blocks_of(ggml_blocks(layer)), kThreads, 0, stream>>>(type, layer, input, blocks);
  });
}

}  // namespace roundhouse::ggml
