// SPDX-License-Identifier: Apache-2.0
// Memory of a CUDA device for tests of kernels.
#pragma once

#include <cuda_runtime.h>

#include <stdexcept>
#include <vector>

#include "tests/kernels/affine_problem.h"

namespace roundhouse::kernels {

inline void check(cudaError_t status) {
  if (status != cudaSuccess) throw std::runtime_error(cudaGetErrorString(status));
}
inline void check(const char* failure) {
  if (failure) throw std::runtime_error(failure);
}

// Device memory that starts as a copy of host memory.
template <typename T>
class OnDevice {
 public:
  explicit OnDevice(const std::vector<T>& host) : n_(host.size()) {
    if (n_ == 0) return;
    check(cudaMalloc(&data_, n_ * sizeof(T)));
    check(cudaMemcpy(data_, host.data(), n_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  ~OnDevice() { cudaFree(data_); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;
  T* data() const { return data_; }
  std::vector<T> host() const {
    std::vector<T> out(n_);
    if (n_) check(cudaMemcpy(out.data(), data_, n_ * sizeof(T), cudaMemcpyDeviceToHost));
    return out;
  }
  Results::mapped_type floats() const {
    const std::vector<T> values = host();
    return {values.begin(), values.end()};
  }

 private:
  size_t n_;
  T* data_ = nullptr;
};

inline std::vector<float> elements(Element type, const OnDevice<uint8_t>& bytes) {
  Elements out(type, 0);
  out.bytes = bytes.host();
  return out.values();
}

// Zeros, as they start on a device.
inline std::vector<float> zeros(int64_t count) { return std::vector<float>(count); }
inline std::vector<uint8_t> zero_bytes(Element type, int64_t count) { return Elements(type, count).bytes; }

constexpr int kShownFailures = 5;

// Skipped without a device.
class CudaTest : public testing::Test {
 protected:
  void SetUp() override {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) GTEST_SKIP() << "no CUDA device: not run";
  }
};

}  // namespace roundhouse::kernels
