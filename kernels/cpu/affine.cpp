// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/affine.h"

#include "kernels/affine_math.h"
#include "kernels/cpu/affine_targets.h"
#include "kernels/cpu/reduce.h"
#include "kernels/cpu/targets.h"

namespace roundhouse::kernels {

const std::vector<const AffineCpu*>& affine_cpu_targets() {
  static const std::vector<const AffineCpu*> targets = [] {
    std::vector<const AffineCpu*> found{&kAffineScalar};
#if defined(ROUNDHOUSE_X86)
    if (runs_avx2()) found.push_back(&kAffineAvx2);
    if (runs_avx512()) found.push_back(&kAffineAvx512);
#endif
    return found;
  }();
  return targets;
}

const AffineCpu& affine_cpu() {
  static const AffineCpu& chosen = chosen_target(affine_cpu_targets());
  return chosen;
}

void range_of_ranges(int64_t n, const float* lows, const float* highs, float* low, float* high) {
  *low = 0.0f - largest_at(n, [&](int64_t i) { return -lows[i]; });
  *high = largest_at(n, [&](int64_t i) { return highs[i]; });
}

namespace {

AffineSums total_of(const AffineSums* sums, int64_t n) {
  return {sum_of(n, [&](int64_t i) { return sums[i].direct; }), sum_of(n, [&](int64_t i) { return sums[i].clipped; })};
}

template <typename Finish>
void finish_tensor(const AffineLayer& layer, const AffineInput& input, const AffineSums* sums, const Finish& finish) {
  const AffineSums total = total_of(sums, affine_spans(layer));
  const AffineGroup group = affine_group(layer, input, 0);
  affine_finish(finish, 0, affine_range_gradients(layer, group, input.low[0], input.high[0], total));
}

}  // namespace

void affine_finish_tensor(const AffineLayer& layer, const AffineInput& input, const AffineSums* sums,
                          const AffineGradients& output) {
  finish_tensor(layer, input, sums, output);
}

void affine_finish_tensor(const AffineLayer& layer, const AffineInput& input, const AffineSums* sums,
                          const AffineStep& step) {
  finish_tensor(layer, input, sums, step);
}

}  // namespace roundhouse::kernels
