// SPDX-License-Identifier: Apache-2.0
// How every family deals spans to threads: kLanes threads, half a warp, work on one span as the CPU's vector lanes do,
// so that sums have the same order. Everything is local to its source.
#pragma once

#include <cuda_runtime.h>

#include "kernels/tuning.h"

namespace roundhouse::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kSpansPerBlock = kThreads / kLanes;

__device__ int lane() { return threadIdx.x % kLanes; }
__device__ int64_t span_index() { return static_cast<int64_t>(blockIdx.x) * kSpansPerBlock + threadIdx.x / kLanes; }

// The mask of a span's threads.
__device__ unsigned half_warp() { return 0xffffu << (threadIdx.x & 16); }

// Before lane 0 writes over what the span's threads have read: shuffles order no memory.
__device__ void all_have_read() { __syncwarp(half_warp()); }

// Folds the upper half of the lanes onto the lower until one is left; the result is lane 0's.
template <typename Combine>
__device__ float fold_lanes(float x, Combine combine) {
  for (int half = kLanes / 2; half > 0; half /= 2) x = combine(x, __shfl_down_sync(half_warp(), x, half, kLanes));
  return x;
}
__device__ float from_lane_0(float x) { return __shfl_sync(half_warp(), x, 0, kLanes); }
__device__ float sum_lanes(float x) {
  return fold_lanes(x, [](float a, float b) { return a + b; });
}

// Writes v's gradient, or steps v. `at` is the place in v.
__device__ void finish_v(const TunableGradients& out, int64_t at, float gradient) {
  if (out.v) out.v[at] = gradient;
}
__device__ void finish_v(const TunableStep& step, int64_t at, float gradient) {
  if (step.v) step.v[at] = step.v[at] - sign_times(*step.rounding_rate, gradient);
}

// v has whole groups, also where a row ends within one.
__device__ void finish_padding(const TunableGradients& out, int64_t at) {
  if (out.v) out.v[at] = 0.0f;
}
__device__ void finish_padding(const TunableStep&, int64_t) {}

// Makes a device current for its lifetime.
class OnDevice {
 public:
  explicit OnDevice(int device) {
    status_ = cudaGetDevice(&previous_);
    differs_ = status_ == cudaSuccess && previous_ != device;
    if (differs_) status_ = cudaSetDevice(device);
  }
  // Setting a device makes a context on it, so nothing is set that need not be.
  ~OnDevice() {
    if (differs_) cudaSetDevice(previous_);
  }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;
  cudaError_t status() const { return status_; }

 private:
  int previous_ = 0;
  bool differs_ = false;
  cudaError_t status_;
};

// launch(blocks, stream) on the device, when there are spans. NULL, or CUDA's text when it failed.
template <typename Launch>
const char* run_spans(int device, void* stream, int64_t spans, Launch&& launch) {
  if (spans == 0) return nullptr;
  const OnDevice on_device(device);
  cudaError_t status = on_device.status();
  if (status == cudaSuccess) {
    launch(static_cast<unsigned>((spans + kSpansPerBlock - 1) / kSpansPerBlock), static_cast<cudaStream_t>(stream));
    status = cudaGetLastError();
  }
  return status == cudaSuccess ? nullptr : cudaGetErrorString(status);
}

}  // namespace
}  // namespace roundhouse::kernels
