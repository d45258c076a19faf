// SPDX-License-Identifier: Apache-2.0
// Stands in for CUDA's header where kernels are compiled as plain C++. Only what Roundhouse's kernels use.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <tuple>

#include "tests/cuda_emulation/scheduler.h"

#define __host__
#define __device__
#define __global__ static
#define __shared__ static  // one block runs at a time
#define __forceinline__ inline __attribute__((always_inline))

#define threadIdx (::cuda_emulation::this_thread().index)
#define blockIdx (::cuda_emulation::this_grid().block)
#define blockDim (::cuda_emulation::this_grid().threads)
#define gridDim (::cuda_emulation::this_grid().blocks)
#define warpSize 32

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

extern "C" {

typedef enum {
  cudaSuccess = 0,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidDevice = 101,
  cudaErrorIllegalAddress = 700,
  cudaErrorLaunchFailure = 719
} cudaError_t;
typedef enum {
  cudaMemcpyHostToHost,
  cudaMemcpyHostToDevice,
  cudaMemcpyDeviceToHost,
  cudaMemcpyDeviceToDevice
} cudaMemcpyKind;
typedef struct CUstream_st* cudaStream_t;

cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaMalloc(void** data, size_t bytes);
cudaError_t cudaFree(void* data);
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemset(void* data, int value, size_t bytes);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();
const char* cudaGetErrorString(cudaError_t error);

}  // extern "C"

template <typename T>
cudaError_t cudaMalloc(T** data, size_t bytes) {
  return cudaMalloc(reinterpret_cast<void**>(data), bytes);
}

namespace cuda_emulation {

// Remembers the failure of a launch for cudaGetLastError().
void launch_failed(const std::string& what);

// What a program may define that has memory which only kernels may reach: lets them in, and locks it behind them.
extern "C" __attribute__((weak)) void cuda_emulation_memory(bool open);

// What rewrite_launches.py makes of kernel<<<blocks, threads, shared, stream>>>(arguments): launch(call, blocks, threads,
// shared, stream)(arguments). The arguments are copied, as a launch does.
template <typename Call>
auto launch(Call call, dim3 blocks, dim3 threads, size_t = 0, cudaStream_t = nullptr) {
  return [call, blocks, threads](auto... arguments) {
    if (cuda_emulation_memory) cuda_emulation_memory(true);
    const std::string failure =
        run_grid({blocks.x, blocks.y, blocks.z}, {threads.x, threads.y, threads.z}, [&] { call(arguments...); });
    if (cuda_emulation_memory) cuda_emulation_memory(false);
    if (!failure.empty()) launch_failed(failure);
  };
}

inline uint32_t shuffle_of_width(Shuffle mode, uint32_t mask, uint32_t value, uint32_t b, int width) {
  bool in_range;
  const uint32_t clamp = mode == Shuffle::kUp ? 0 : 31;
  return shuffle(mode, mask, value, b, static_cast<uint32_t>(32 - width) << 8 | clamp, in_range);
}

}  // namespace cuda_emulation

namespace cuda_emulation {

template <typename T>
T shuffled(Shuffle mode, uint32_t mask, T x, uint32_t by, int width) {
  static_assert(sizeof(T) == 4);
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof x);
  bits = shuffle_of_width(mode, mask, bits, by, width);
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

}  // namespace cuda_emulation

template <typename T>
T __shfl_sync(unsigned mask, T x, int lane, int width = warpSize) {
  return cuda_emulation::shuffled(cuda_emulation::Shuffle::kIndex, mask, x, static_cast<uint32_t>(lane), width);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T x, unsigned by, int width = warpSize) {
  return cuda_emulation::shuffled(cuda_emulation::Shuffle::kDown, mask, x, by, width);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T x, unsigned by, int width = warpSize) {
  return cuda_emulation::shuffled(cuda_emulation::Shuffle::kUp, mask, x, by, width);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T x, int by, int width = warpSize) {
  return cuda_emulation::shuffled(cuda_emulation::Shuffle::kButterfly, mask, x, static_cast<uint32_t>(by), width);
}
inline unsigned atomicOr(unsigned* at, unsigned bits) {  // one fiber runs at a time
  const unsigned before = *at;
  *at |= bits;
  return before;
}
inline void __syncwarp(unsigned mask = 0xffffffffu) {
  cuda_emulation::exchange(cuda_emulation::Collective::kSyncWarp, mask, 0, cuda_emulation::this_thread().lane());
}
inline unsigned __ballot_sync(unsigned mask, int predicate) { return cuda_emulation::ballot(mask, predicate != 0); }
inline void __syncthreads() { cuda_emulation::sync_threads(); }

// Rounded as their names say; the compiler must not contract (-ffp-contract=off).
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
