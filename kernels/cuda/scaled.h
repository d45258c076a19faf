// SPDX-License-Identifier: Apache-2.0
// The CUDA kernels of scaled small floats: the functions of kernels/cpu/scaled.h for whole layers, with the same bits
// in every result.
#pragma once

#include "kernels/scaled.h"
#include "kernels/status.h"

namespace roundhouse::kernels {

// Where to run. Every function enqueues and returns at once: it allocates nothing, waits for nothing, reads nothing
// back and leaves the current device as it was, so it may be captured in a graph. All pointers are to memory of the
// device. Returns NULL, or CUDA's text when a launch failed.
struct ScaledCuda {
  int device;
  void* stream;  // cudaStream_t

  // `workspace`: float [spans], used with more than one row a group only.
  const char* maximum(const ScaledLayer& layer, const void* input, float* maximum, float* workspace) const;
  // `workspace`: float [n / kLanes], beside `maximum`.
  const char* largest(int64_t n, const float* maximum, float* largest, float* workspace) const;
  // Sets the bits of kNotFinite and kScaleRange in `status` for the first `groups` groups that have no finite scale, and for
  // `largest`. maximum, largest: NULL where there are none; status: NULL does nothing.
  const char* check(const ScaledLayer& layer, int64_t groups, const float* maximum, const float* largest,
                    uint32_t* status) const;
  const char* search(const ScaledLayer& layer, const ScaledInput& input, const ScaledSearch& search) const;
  const char* forward(const ScaledLayer& layer, const ScaledInput& input, const ScaledOutput& output) const;
  const char* encode(const ScaledLayer& layer, const ScaledInput& input, const ScaledCodes& output) const;
  const char* decode(const ScaledLayer& layer, const ScaledCodes& input, void* output, Element type) const;
  const char* input_gradient(const ScaledLayer& layer, const ScaledInput& input, const OutputGradient& gradient,
                             void* output, Element type) const;
  const char* calibrated(const ScaledLayer& layer, const ScaledInput& input, float* scale) const;
  // `sums`: [spans], used with more than one row a group only.
  const char* backward(const ScaledLayer& layer, const ScaledInput& input, const OutputGradient& gradient,
                       const TunableGradients& output, ScaledSum* sums) const;
  const char* sign_step(const ScaledLayer& layer, const ScaledInput& input, const OutputGradient& gradient,
                        const TunableStep& step, ScaledSum* sums) const;
};

}  // namespace roundhouse::kernels
