// SPDX-License-Identifier: Apache-2.0
// How every family deals spans to threads. A span's kLanes lanes, which sums are kept in, are dealt to kLanes / W
// threads, W neighbours to each, so that sums have the CPU's order: a thread works on W neighbouring elements of every
// kLanes, and loads them together. Everything is local to its source.
#pragma once

#include <cuda_runtime.h>

#include <initializer_list>

#include "kernels/status.h"
#include "kernels/tuning.h"

namespace roundhouse::kernels {
namespace {

constexpr int kThreads = 256;
constexpr unsigned kWarp = 0xffffffffu;  // a span's threads are in one warp; those that have ended need not take part

// W elements that a thread loads and stores together.
constexpr int kTogether = 8;

// T threads a span.
template <int T>
__device__ int place() {
  return threadIdx.x % T;
}
template <int T>
__device__ int64_t span_index() {
  return (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / T;
}

// Before a span's first thread writes over what the others have read: shuffles order no memory.
__device__ void all_have_read() { __syncwarp(kWarp); }

// Folds the upper half of T threads onto the lower until one is left; the result is the first thread's.
template <int T, typename Combine>
__device__ float fold_threads(float x, Combine combine) {
  for (int half = T / 2; half > 0; half /= 2) x = combine(x, __shfl_down_sync(kWarp, x, half, T));
  return x;
}
template <int T>
__device__ float from_first(float x) {
  return __shfl_sync(kWarp, x, 0, T);
}

// The sum of a span's lanes, W of each thread; the result is the first thread's.
template <int W>
__device__ float sum_lanes(float (&x)[W]) {
  constexpr int T = kLanes / W;
  for (int i = 0; i < W; ++i) x[i] = fold_threads<T>(x[i], [](float a, float b) { return a + b; });
  for (int half = W / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) x[i] = x[i] + x[i + half];
  return x[0];
}

template <int T>
__device__ float largest_of_threads(float x) {
  return fold_threads<T>(x, [](float a, float b) { return max_of(a, b); });
}
template <int T>
__device__ float smallest_of_threads(float x) {
  return fold_threads<T>(x, [](float a, float b) { return min_of(a, b); });
}
// 0, or NaN when a thread has one.
template <int T>
__device__ float nan_of_threads(float x) {
  return fold_threads<T>(x, [](float a, float b) { return a + b; });
}

// ---- elements, W together ----

template <int bytes>
struct alignas(bytes) Piece {
  uint32_t words[bytes / 4];
};

// The bits of two neighbours of 16 bits.
template <Element e>
__device__ uint32_t pair_from_floats(float low, float high) {
#if defined(__CUDA_ARCH__)
  uint32_t out;
  if constexpr (e == Element::kBF16)
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
  else
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
  return out;
#else
  return from_float<e>(low) | static_cast<uint32_t>(from_float<e>(high)) << 16;
#endif
}
template <Element e>
__device__ float low_of_pair(uint32_t pair) {
  if constexpr (e == Element::kBF16) return bits_float(pair << 16);
  return to_float<e>(static_cast<uint16_t>(pair));
}
template <Element e>
__device__ float high_of_pair(uint32_t pair) {
  if constexpr (e == Element::kBF16) return bits_float(pair & 0xffff0000u);
  return to_float<e>(static_cast<uint16_t>(pair >> 16));
}

// With W > 1 aligned to W elements, or to 16 bytes.
template <Element e, int W>
__device__ void load_elements(const void* base, int64_t i, float (&x)[W]) {
  const auto* from = static_cast<const Storage<e>*>(base) + i;
  if constexpr (W == 1) {
    x[0] = to_float<e>(*from);
  } else if constexpr (e == Element::kF32) {
    for (int k = 0; k < W; k += 4) {
      const auto piece = *reinterpret_cast<const Piece<16>*>(from + k);
      for (int j = 0; j < 4; ++j) x[k + j] = bits_float(piece.words[j]);
    }
  } else {
    const auto piece = *reinterpret_cast<const Piece<2 * W>*>(from);
    for (int k = 0; k < W / 2; ++k) {
      x[2 * k] = low_of_pair<e>(piece.words[k]);
      x[2 * k + 1] = high_of_pair<e>(piece.words[k]);
    }
  }
}
template <Element e, int W>
__device__ void store_elements(void* base, int64_t i, const float (&x)[W]) {
  auto* to = static_cast<Storage<e>*>(base) + i;
  if constexpr (W == 1) {
    *to = from_float<e>(x[0]);
  } else if constexpr (e == Element::kF32) {
    for (int k = 0; k < W; k += 4) {
      Piece<16> piece;
      for (int j = 0; j < 4; ++j) piece.words[j] = float_bits(x[k + j]);
      *reinterpret_cast<Piece<16>*>(to + k) = piece;
    }
  } else {
    Piece<2 * W> piece;
    for (int k = 0; k < W / 2; ++k) piece.words[k] = pair_from_floats<e>(x[2 * k], x[2 * k + 1]);
    *reinterpret_cast<Piece<2 * W>*>(to) = piece;
  }
}

template <int W>
__device__ void load_elements(Element e, const void* base, int64_t i, float (&x)[W]) {
  if (e == Element::kF16)
    load_elements<Element::kF16>(base, i, x);
  else if (e == Element::kBF16)
    load_elements<Element::kBF16>(base, i, x);
  else
    load_elements<Element::kF32>(base, i, x);
}
template <int W>
__device__ void store_elements(Element e, void* base, int64_t i, const float (&x)[W]) {
  if (e == Element::kF16)
    store_elements<Element::kF16>(base, i, x);
  else if (e == Element::kBF16)
    store_elements<Element::kBF16>(base, i, x);
  else
    store_elements<Element::kF32>(base, i, x);
}
// Rounded to an element type, then converted to another.
template <Element rounded, int W>
__device__ void store_rounded(Element e, void* base, int64_t i, const float (&x)[W]) {
  if (e == rounded) return store_elements<rounded>(base, i, x);
  float y[W];
  for (int k = 0; k < W; ++k) y[k] = round_to<rounded>(x[k]);
  store_elements(e, base, i, y);
}

// Writes v's gradient, or steps v. `at` is the place in v.
template <int W>
__device__ void finish_v(const TunableGradients& out, int64_t at, const float (&gradient)[W]) {
  if (out.v) store_elements<Element::kF32>(out.v, at, gradient);
}
template <int W>
__device__ void finish_v(const TunableStep& step, int64_t at, const float (&gradient)[W]) {
  if (!step.v) return;
  const float rate = *step.rounding_rate;
  float v[W];
  load_elements<Element::kF32>(step.v, at, v);
  for (int k = 0; k < W; ++k) v[k] = v[k] - sign_times(rate, gradient[k]);
  store_elements<Element::kF32>(step.v, at, v);
}

// v has whole groups, also where a row ends within one.
__device__ void finish_padding(const TunableGradients& out, int64_t at) {
  if (out.v) out.v[at] = 0.0f;
}
__device__ void finish_padding(const TunableStep&, int64_t) {}

// ---- what cannot be represented ----

__device__ int64_t thread_index() { return static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; }
__device__ bool is_finite(float x) { return x - x == 0.0f; }
__device__ void tell(uint32_t* status, uint32_t what) { atomicOr(status, what); }

// ---- launching ----

// The spans of a layer, as they are dealt to threads.
struct Spans {
  int64_t count, per_row;
};

template <int n>
struct Number {
  static constexpr int value = n;
};

inline bool together(int64_t multiple, std::initializer_list<const void*> tensors) {
  for (const void* tensor : tensors)
    if (reinterpret_cast<uintptr_t>(tensor) % 16 != 0) return false;
  return multiple % kTogether == 0;
}

// Spans up to here take two threads each; more threads of longer ones keep a device busy.
constexpr int64_t kShortSpan = 256;

// body(threads a span, elements together) where there are sums, and where there are none.
template <typename Body>
void with_sums(bool together, int64_t span_cols, Body&& body) {
  if (together && span_cols <= kShortSpan)
    body(Number<kLanes / kTogether>{}, Number<kTogether>{});
  else
    body(Number<kLanes>{}, Number<1>{});
}
template <typename Body>
void without_sums(bool together, int64_t span_cols, Body&& body) {
  if (together && span_cols > kShortSpan)
    body(Number<kLanes>{}, Number<kTogether>{});
  else
    with_sums(together, span_cols, body);
}

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

inline unsigned blocks_of(int64_t threads) { return static_cast<unsigned>((threads + kThreads - 1) / kThreads); }

// launch(stream) on the device, when there are spans. NULL, or CUDA's text when it failed.
template <typename Launch>
const char* run_spans(int device, void* stream, int64_t spans, Launch&& launch) {
  if (spans == 0) return nullptr;
  const OnDevice on_device(device);
  cudaError_t status = on_device.status();
  if (status == cudaSuccess) {
    launch(static_cast<cudaStream_t>(stream));
    status = cudaGetLastError();
  }
  return status == cudaSuccess ? nullptr : cudaGetErrorString(status);
}

}  // namespace
}  // namespace roundhouse::kernels
