// SPDX-License-Identifier: Apache-2.0
// The element-wise parts of tuning a block, each in one pass over a device's memory. They round where
// host/model/ops.cpp and host/tuning/loss.cpp round; sums have an order of their own, the same every time.
#pragma once

#include "kernels/floats.h"

namespace roundhouse::kernels {

// Where to run.
struct Queue {
  int device;
  void* stream;  // cudaStream_t
};

// Of [tokens, heads, size], the first `dims` features of every head are turned by cos and sin, [positions, dims]; token
// t has position t % positions. Feature i is turned with feature i + dims / 2, or interleaved, 2i with 2i + 1.
struct Rotation {
  int64_t tokens, heads, size, positions, dims;
  bool interleaved;
  bool back;  // the other way, as gradients are
};

// Every function enqueues and returns at once: it allocates nothing, waits for nothing and leaves the current device as
// it was. All pointers are to memory of the device; tensors are contiguous, and of `type` where nothing else is said.
// Returns NULL, or the device's text when a launch failed.
struct BlockKernels {
  virtual ~BlockKernels() = default;
  // y = silu(gate) * up, where silu(x) = x / (1 + exp(-x)); n elements.
  virtual const char* silu_multiply(Queue queue, Element type, int64_t n, const void* gate, const void* up,
                                    void* y) const = 0;
  // The gradients of gate and up, from that of y.
  virtual const char* silu_multiply_backward(Queue queue, Element type, int64_t n, const void* dy, const void* gate,
                                             const void* up, void* d_gate, void* d_up) const = 0;
  // REQUIRES: tokens * heads * size < 2^32.
  virtual const char* rotate(Queue queue, Element type, const Rotation& rotation, const void* x, const void* cos,
                             const void* sin, void* y) const = 0;
  // gradient = scale * (prediction - target), sums[row] = the row's sum of (prediction - target)^2; 0 in rows of which
  // the mask, [rows], is 0. Finite differences whose size is beyond *limit count as 0; NULL: all count.
  virtual const char* squared_error(Queue queue, Element type, int64_t rows, int64_t cols, const void* prediction,
                                    const void* target, const uint8_t* mask, float scale, const float* limit,
                                    void* gradient, float* sums) const = 0;
  // Where *improved, best = now, of n floats each; else neither is read.
  virtual const char* keep_best(Queue queue, int64_t n, const bool* improved, const float* now, float* best) const = 0;
};

}  // namespace roundhouse::kernels
