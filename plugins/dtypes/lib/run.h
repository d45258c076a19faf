// SPDX-License-Identifier: Apache-2.0
// Runs kernels where a call asks for it: on the host's threads, or on its CUDA stream.
#pragma once

#include <algorithm>
#include <cstddef>
#include <roundhouse/plugin.hpp>
#include <string>

#include "kernels/status.h"

static_assert(roundhouse::kernels::kNotFinite == RH_STATUS_NOT_FINITE &&
              roundhouse::kernels::kScaleRange == RH_STATUS_SCALE_RANGE);

// Where kernels tell what they cannot represent, or NULL.
inline uint32_t* status_of(const rh_exec& exec) {
  return exec.struct_size >= offsetof(rh_exec, status) + sizeof exec.status ? exec.status : nullptr;
}

// On the CPU body(begin, end) for chunks of whole spans of about `span_cols` elements, so that no result depends on the
// thread count.
template <typename Body>
void for_span_chunks(int64_t spans, int64_t span_cols, Body&& body) {
  constexpr int64_t kChunk = 1 << 16;  // elements: some tens of microseconds
  rh::parallel_for(spans, std::max<int64_t>(1, kChunk / span_cols), body);
}

// Calls on_cuda(where), `where` a Cuda, when the call runs on CUDA, and says whether it did.
template <typename Cuda, typename OnCuda>
bool ran_on(const rh_exec& exec, OnCuda&& on_cuda) {
  if (exec.device.type == RH_DEVICE_CPU) return false;
#if defined(ROUNDHOUSE_WITH_CUDA)
  if (exec.device.type == RH_DEVICE_CUDA) {
    const char* failure = on_cuda(Cuda{exec.device.id, exec.stream});
    if (failure) throw rh::Error(RH_INTERNAL, std::string("CUDA: ") + failure);
    return true;
  }
#else
  (void)on_cuda;
#endif
  throw rh::Error(RH_UNIMPLEMENTED, "this build has no kernels for device type " + std::to_string(exec.device.type));
}
