// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/scaled.h"

#include "kernels/cpu/reduce.h"
#include "kernels/cpu/scaled_targets.h"
#include "kernels/cpu/targets.h"
#include "kernels/scaled_math.h"

namespace roundhouse::kernels {

const std::vector<const ScaledCpu*>& scaled_cpu_targets() {
  static const std::vector<const ScaledCpu*> targets = [] {
    std::vector<const ScaledCpu*> found{&kScaledScalar};
#if defined(ROUNDHOUSE_X86)
    if (runs_avx2()) found.push_back(&kScaledAvx2);
    if (runs_avx512()) found.push_back(&kScaledAvx512);
#endif
    return found;
  }();
  return targets;
}

const ScaledCpu& scaled_cpu() {
  static const ScaledCpu& chosen = chosen_target(scaled_cpu_targets());
  return chosen;
}

namespace {

template <typename Finish>
void finish_groups(const ScaledLayer& layer, const ScaledInput& input, const ScaledSum* sums, const Finish& finish) {
  for (int64_t group = 0; group < scaled_groups(layer); ++group) {
    const float sum = sum_of(scaled_rows_of_group(layer, group),
                             [&](int64_t row) { return sums[scaled_span_of_group(layer, group, row)]; });
    scaled_finish(finish, group, sum * scaled_group(layer, input, group).slope);
  }
}

}  // namespace

float largest_of(int64_t n, const float* maximum) {
  return largest_at(n, [&](int64_t i) { return maximum[i]; });
}

void scaled_group_maximum(const ScaledLayer& layer, const float* spans, float* groups) {
  for (int64_t group = 0; group < scaled_groups(layer); ++group)
    groups[group] = largest_at(scaled_rows_of_group(layer, group),
                               [&](int64_t row) { return spans[scaled_span_of_group(layer, group, row)]; });
}

void scaled_finish_groups(const ScaledLayer& layer, const ScaledInput& input, const ScaledSum* sums,
                          const TunableGradients& output) {
  finish_groups(layer, input, sums, output);
}

void scaled_finish_groups(const ScaledLayer& layer, const ScaledInput& input, const ScaledSum* sums,
                          const TunableStep& step) {
  finish_groups(layer, input, sums, step);
}

}  // namespace roundhouse::kernels
