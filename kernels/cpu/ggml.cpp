// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/ggml.h"

#include "kernels/cpu/ggml_targets.h"
#include "kernels/cpu/targets.h"

namespace roundhouse::kernels {

const std::vector<const GgmlCpu*>& ggml_cpu_targets() {
  static const std::vector<const GgmlCpu*> targets = [] {
    std::vector<const GgmlCpu*> found{&kGgmlScalar};
#if defined(ROUNDHOUSE_X86)
    if (runs_avx2()) found.push_back(&kGgmlAvx2);
    if (runs_avx512()) found.push_back(&kGgmlAvx512);
#endif
    return found;
  }();
  return targets;
}

const GgmlCpu& ggml_cpu() {
  static const GgmlCpu& chosen = chosen_target(ggml_cpu_targets());
  return chosen;
}

}  // namespace roundhouse::kernels
