// SPDX-License-Identifier: Apache-2.0
// The CUDA kernels of affine integer quantization: the functions of kernels/cpu/affine.h for whole layers, with the
// same bits in every result.
#pragma once

#include "kernels/affine.h"
#include "kernels/affine_search.h"
#include "kernels/progressive.h"
#include "kernels/status.h"

namespace roundhouse::kernels {

// Where to run. Every function enqueues and returns at once: it allocates nothing, waits for nothing, reads nothing
// back and leaves the current device as it was, so it may be captured in a graph. All pointers are to memory of the
// device. Returns NULL, or CUDA's text when a launch failed.
struct AffineCuda {
  int device;
  void* stream;  // cudaStream_t

  // `workspace`: float [2 * spans], used with one group for the whole tensor only.
  const char* range(const AffineLayer& layer, const void* weight, float* low, float* high, float* workspace) const;
  // Sets the bits of kNotFinite and kScaleRange in `status` for groups that have no finite scale; NULL: does nothing.
  const char* check(const AffineLayer& layer, const float* low, const float* high, uint32_t* status) const;
  const char* forward(const AffineLayer& layer, const AffineInput& input, const AffineOutput& output) const;
  const char* encode(const AffineLayer& layer, const AffineInput& input, const AffineCodes& output) const;
  const char* decode(const AffineLayer& layer, const AffineCodes& input, void* output, Element type) const;
  // `sums`: [spans], used with one group for the whole tensor only.
  const char* backward(const AffineLayer& layer, const AffineInput& input, const AffineGradient& gradient,
                       const AffineGradients& output, AffineSums* sums) const;
  const char* sign_step(const AffineLayer& layer, const AffineInput& input, const AffineGradient& gradient,
                        const AffineStep& step, AffineSums* sums) const;
  const char* input_gradient(const AffineLayer& layer, const AffineInput& input, const AffineGradient& gradient,
                             void* output) const;
  const char* search(const AffineLayer& layer, const AffineSearch& input, float* low, float* high) const;
  const char* progressive(const AffineLayer& layer, const AffineProgressive& args) const;
};

}  // namespace roundhouse::kernels
