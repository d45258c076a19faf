// SPDX-License-Identifier: Apache-2.0
// The part of CUDA's runtime that tests of kernels use, on host memory. Launches run at once, so nothing needs waiting
// for.
#include <cuda_runtime.h>

#include <cstdlib>
#include <cstring>
#include <string>

#include "tests/cuda_emulation/device_memory.h"

namespace {

int current_device = 0;
cudaError_t last_error = cudaSuccess;
std::string last_text;

cudaError_t remembered(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

}  // namespace

namespace cuda_emulation {

void launch_failed(const std::string& what) {
  last_text = what;
  last_error = cudaErrorLaunchFailure;
}

}  // namespace cuda_emulation

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  if (device != 0) return remembered(cudaErrorInvalidDevice);
  current_device = device;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** data, size_t bytes) {
  *data = cuda_emulation::allocate(bytes);
  return *data ? cudaSuccess : remembered(cudaErrorMemoryAllocation);
}

cudaError_t cudaFree(void* data) {
  return cuda_emulation::release(data) ? cudaSuccess : remembered(cudaErrorIllegalAddress);
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  if ((from_device && !cuda_emulation::holds(from, bytes)) || (to_device && !cuda_emulation::holds(to, bytes)))
    return remembered(cudaErrorIllegalAddress);
  std::memcpy(to, from, bytes);
  if (to_device) cuda_emulation::initialized(to, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemset(void* data, int value, size_t bytes) {
  if (!cuda_emulation::holds(data, bytes)) return remembered(cudaErrorIllegalAddress);
  std::memset(data, value, bytes);
  cuda_emulation::initialized(data, bytes);
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }

cudaError_t cudaPeekAtLastError() { return last_error; }

cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorIllegalAddress:
      return "an illegal memory access was encountered";
    case cudaErrorLaunchFailure:
      return last_text.c_str();
    default:
      return "an error that the emulation does not know";
  }
}

}  // extern "C"
