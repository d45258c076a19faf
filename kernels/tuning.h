// SPDX-License-Identifier: Apache-2.0
// What tuning needs of every family of kernels: gradients, and steps along their signs.
#pragma once

#include "floats.h"

namespace roundhouse::kernels {

struct OutputGradient {
  const void *qdq;  // gradient of the quantized weight
  Element type;
};

// Straight-through gradients of the tunables, null where not wanted.
struct TunableGradients {
  float *v, *min_scale, *max_scale;
};

// tunable <- clamp(tunable - learning_rate * sign(gradient)); null where not tuned. Learning rates are read where the
// kernel runs.
struct TunableStep {
  float *v, *min_scale, *max_scale;
  const float *rounding_rate, *range_rate;
  float range_limit = 1;  // of min_scale and max_scale
};

// Value is here and in the families' formulas float, or a vector of kLanes floats with the operations of floats.h.

// max_of(x, bound) and min_of(x, bound) for a bound that is neither NaN nor -0: a GPU has one instruction for each.
template <typename Value>
KERNEL_FN Value at_least(Value x, Value bound) {
#if defined(__CUDA_ARCH__)
  return fmaxf(x, bound);
#else
  return max_of(x, bound);
#endif
}
template <typename Value>
KERNEL_FN Value at_most(Value x, Value bound) {
#if defined(__CUDA_ARCH__)
  return fminf(x, bound);
#else
  return min_of(x, bound);
#endif
}

// min_scale or max_scale, as far as tuning may take it.
template <typename Value>
KERNEL_FN Value range_factor(Value x, float limit) {
  return min_of(max_of(x, Value(0.0f)), Value(limit));
}

template <typename Value>
KERNEL_FN Value round_to(Element e, Value x) {
  if (e == Element::kF16) return round_to<Element::kF16>(x);
  if (e == Element::kBF16) return round_to<Element::kBF16>(x);
  return x;
}

// rate * sign(gradient), where the sign of zero is zero.
template <typename Value>
KERNEL_FN Value sign_times(Value rate, Value gradient) {
  return keep(greater(gradient, Value(0.0f)), rate) - keep(greater(Value(0.0f), gradient), rate);
}

}  // namespace roundhouse::kernels
