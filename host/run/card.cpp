// SPDX-License-Identifier: Apache-2.0
#include "host/run/card.h"

#include <limits>

#include "host/base/error.h"
#include "host/report/table.h"

namespace roundhouse {

std::string card_text(const CudaCard& card, const Plan& plan) {
  const CardEstimate estimate = estimate_on(card, plan);
  if (card.memory == 0 || estimate.work == 0) return "";
  const bool fits = estimate.work + estimate.activations <= card.memory;
  return cat(
      card.name, ": about ", format_bytes(estimate.work + (fits ? estimate.activations : 0)), " of its ",
      format_bytes(card.memory),
      fits ? "" : cat(", and ", format_bytes(estimate.activations), " of activations in host memory, for want of room"),
      estimate.seconds > 0 ? cat(", about ", format_seconds(estimate.seconds)) : "");
}

std::optional<int64_t> fitted_memory(const CudaCard& card, const Plan& plan) {
  const std::optional<int64_t>& wanted = plan.recipe.memory;
  const CardEstimate estimate = estimate_on(card, plan);
  if (card.memory == 0 || wanted || estimate.work + estimate.activations <= card.memory) return wanted;
  if (estimate.work > card.memory)
    throw Error(cat("a block of this model needs about ", format_bytes(estimate.work), ", and ", card.name, " has ",
                    format_bytes(card.memory), ": choose a larger card or device: cpu, or lower calibration.seqlen"));
  return std::numeric_limits<int64_t>::max();
}

}  // namespace roundhouse
