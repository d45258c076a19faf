// SPDX-License-Identifier: Apache-2.0
// The CUDA kernels of quantization to the blocks of ggml: the functions of kernels/cpu/ggml.h for whole layers, with
// the same bits in every result.
#pragma once

#include "kernels/ggml.h"
#include "kernels/status.h"

namespace roundhouse::kernels {

// Where to run; what AffineCuda says of its functions holds for these. Tensors of the weight's shape are aligned to 16
// bytes, or the call fails.
struct GgmlCuda {
  int device;
  void* stream;  // cudaStream_t

  const char* range(const GgmlLayer& layer, const void* weight, float* low, float* high) const;
  // Sets the bits of kNotFinite and kScaleRange in `status` for blocks that have no finite scale; NULL: does nothing.
  const char* check(const GgmlLayer& layer, const GgmlInput& input, uint32_t* status) const;
  const char* forward(const GgmlLayer& layer, const GgmlInput& input, const GgmlOutput& output) const;
  const char* backward(const GgmlLayer& layer, const GgmlInput& input, const OutputGradient& gradient,
                       const TunableGradients& output) const;
  const char* sign_step(const GgmlLayer& layer, const GgmlInput& input, const OutputGradient& gradient,
                        const TunableStep& step) const;
};

}  // namespace roundhouse::kernels
