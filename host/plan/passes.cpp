// SPDX-License-Identifier: Apache-2.0
#include "host/plan/passes.h"

namespace roundhouse {

Passes passes(const Plan& plan) {
  Passes p;
  for (const LayerPlan& layer : plan.layers) {
    p.ranges |= layer.calibrated_input;
    if (!layer.scheme.weight) continue;
    p.tuned |= is_tuned(layer.scheme.weight->rounding);
    p.importance |= is_searched(layer.scheme.weight->rounding) && !plan.recipe.imatrix.file && !plan.rounds_only;
  }
  p.importance |= plan.recipe.imatrix.save.has_value();
  p.full = p.tuned || p.importance || (p.ranges && !plan.recipe.tuning.quantized_input);
  p.quantized = plan.recipe.tuning.quantized_input && (p.tuned || p.ranges);
  return p;
}

int64_t tokens_an_expert(const Plan& plan) {
  const Calibration& calibration = plan.recipe.calibration;
  return calibration.samples * calibration.seqlen * plan.experts_used / plan.experts;
}

}  // namespace roundhouse
