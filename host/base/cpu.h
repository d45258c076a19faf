// SPDX-License-Identifier: Apache-2.0
// What the processor can do.
#pragma once

#include <string>
#include <vector>

namespace roundhouse {

// Whether blocks compute in bfloat16, else in float32: on a GPU, and where the processor multiplies bfloat16 natively.
inline bool computes_in_bfloat16(bool on_gpu) {
#if defined(__x86_64__)
  return on_gpu || __builtin_cpu_supports("avx512bf16");
#else
  return on_gpu;
#endif
}

// Those that the kernels of the project's data types are written for, as people call them.
inline std::vector<std::string> vector_units() {
  std::vector<std::string> units;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c")) units.emplace_back("AVX2");
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    units.emplace_back("AVX-512");
  if (__builtin_cpu_supports("avx512bf16")) units.emplace_back("AVX512-BF16");
#endif
  return units;
}

}  // namespace roundhouse
