// SPDX-License-Identifier: Apache-2.0
// Which of a family's tables (one for each instruction set) this processor runs, and which is used.
#pragma once

#include <cstdlib>
#include <cstring>
#include <vector>

namespace roundhouse::kernels {

#if defined(ROUNDHOUSE_X86)
inline bool runs_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c"); }
inline bool runs_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

// The fastest of `targets`, the last, or the one that the environment variable ROUNDHOUSE_CPU_TARGET names when it is
// there.
template <typename Table>
const Table& chosen_target(const std::vector<const Table*>& targets) {
  const char* wanted = std::getenv("ROUNDHOUSE_CPU_TARGET");
  for (const Table* target : targets)
    if (wanted && std::strcmp(target->name, wanted) == 0) return *target;
  return *targets.back();
}

}  // namespace roundhouse::kernels
