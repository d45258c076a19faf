// SPDX-License-Identifier: Apache-2.0
// Tensors slice by slice: what one pass leaves in the cache the next one reads.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cstdint>

namespace roundhouse {

// libtorch takes the exponential of whole vectors and of the elements left over by different code, and cuts a tensor by
// the number of threads. Slices of a fixed size, too small to be cut again (its gelu is from 16384 elements on), keep
// the bits independent of it.
constexpr int64_t kSlice = 1 << 14;  // elements

// Calls body(begin, length) for slices of `size` of `count` elements or rows, in parallel; off the CPU, for all at once.
template <typename Body>
void for_slices(int64_t count, int64_t size, at::Device device, const Body& body) {
  if (!device.is_cpu()) size = std::max<int64_t>(count, 1);
  at::parallel_for(0, (count + size - 1) / size, 1, [&](int64_t begin, int64_t end) {
    const at::NoGradGuard no_grad;  // each thread has its own grad mode
    for (int64_t i = begin; i < end; ++i) body(i * size, std::min(size, count - i * size));
  });
}

}  // namespace roundhouse
