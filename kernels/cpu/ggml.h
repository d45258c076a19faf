// SPDX-License-Identifier: Apache-2.0
// The CPU kernels of quantization to the blocks of ggml, one table for each instruction set that this build has.
//
// Every function works on blocks [begin, end) of a layer on the calling thread, and gives the same bits on each target.
#pragma once

#include <vector>

#include "kernels/ggml.h"
#include "kernels/ggml_search.h"

namespace roundhouse::kernels {

struct GgmlCpu {
  const char* name;  // "scalar", "avx2", "avx512"

  // min(min w, 0) and max(max w, 0) of each group, [groups] each; NaN and NaN when an element is NaN or infinite.
  void (*range)(const GgmlLayer& layer, const void* weight, float* low, float* high, int64_t begin, int64_t end);
  void (*forward)(const GgmlLayer& layer, const GgmlInput& input, const GgmlOutput& output, int64_t begin, int64_t end);
  // The parameters and codes from 0, [blocks, block_cols], of at most kLanes blocks.
  void (*codes)(const GgmlLayer& layer, const GgmlInput& input, uint8_t* codes, GgmlBlock* blocks, int64_t begin,
                int64_t end);
  void (*backward)(const GgmlLayer& layer, const GgmlInput& input, const OutputGradient& gradient,
                   const TunableGradients& output, int64_t begin, int64_t end);
  // The tunables that `step` updates are also those that `input` reads.
  void (*sign_step)(const GgmlLayer& layer, const GgmlInput& input, const OutputGradient& gradient,
                    const TunableStep& step, int64_t begin, int64_t end);
  // The best parameters of each block; a block does not depend on those beside it.
  void (*search)(const GgmlLayer& layer, const GgmlSearch& input, GgmlBlock* out, int64_t begin, int64_t end);
};

// What this build has and this processor runs, from the slowest (scalar) to the fastest, and the one to use
// (targets.h).
const std::vector<const GgmlCpu*>& ggml_cpu_targets();
const GgmlCpu& ggml_cpu();

}  // namespace roundhouse::kernels
