#include "kernels/cpu/affine.h"

#include <cstdlib>
#include <cstring>

#include "kernels/affine_math.h"
#include "kernels/cpu/affine_targets.h"

namespace roundhouse::kernels {

const std::vector<const AffineCpu*>& affine_cpu_targets() {
  static const std::vector<const AffineCpu*> targets = [] {
    std::vector<const AffineCpu*> found{&kAffineScalar};
#if defined(ROUNDHOUSE_X86)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c")) found.push_back(&kAffineAvx2);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
      found.push_back(&kAffineAvx512);
#endif
    return found;
  }();
  return targets;
}

const AffineCpu& affine_cpu() {
  static const AffineCpu& chosen = []() -> const AffineCpu& {
    const char* wanted = std::getenv("ROUNDHOUSE_CPU_TARGET");
    for (const AffineCpu* target : affine_cpu_targets())
      if (wanted && std::strcmp(target->name, wanted) == 0) return *target;
    return *affine_cpu_targets().back();
  }();
  return chosen;
}

void affine_range_tensor(const AffineLayer& layer, const float* span_low, const float* span_high, float* low,
                         float* high) {
  float lowest = 0.0f, highest = 0.0f, finite = 0.0f;
  for (int64_t i = 0; i < affine_spans(layer); ++i) {
    lowest = min_of(span_low[i], lowest);
    highest = max_of(span_high[i], highest);
    finite += span_low[i] - span_low[i];  // NaN from the first NaN on
  }
  *low = lowest + finite;
  *high = highest + finite;
}

namespace {

AffineSums total_of(const AffineSums* sums, int64_t n) {
  AffineSums lanes[kLanes] = {};
  for (int64_t i = 0; i < n; ++i) {
    lanes[i % kLanes].direct += sums[i].direct;
    lanes[i % kLanes].clipped += sums[i].clipped;
  }
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) {
      lanes[i].direct += lanes[i + half].direct;
      lanes[i].clipped += lanes[i + half].clipped;
    }
  }
  return lanes[0];
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
