// SPDX-License-Identifier: Apache-2.0
// What the processor can do.
#pragma once

namespace roundhouse {

// Whether blocks compute in bfloat16, else in float32: on a GPU, and where the processor multiplies bfloat16 natively.
inline bool computes_in_bfloat16(bool on_gpu) {
#if defined(__x86_64__)
  return on_gpu || __builtin_cpu_supports("avx512bf16");
#else
  return on_gpu;
#endif
}

}  // namespace roundhouse
