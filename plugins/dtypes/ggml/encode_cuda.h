// SPDX-License-Identifier: Apache-2.0
// Finished blocks on a CUDA device, the same bytes as on the CPU.
#pragma once

#include "block_type.h"
#include "kernels/cuda/ggml.h"

namespace roundhouse::ggml {

// NULL, or CUDA's text when it failed.
const char* encode_cuda(const kernels::GgmlCuda& where, BlockType type, const kernels::GgmlLayer& layer,
                        const kernels::GgmlInput& input, uint8_t* blocks);

}  // namespace roundhouse::ggml
