// SPDX-License-Identifier: Apache-2.0
#include "host/run/card.h"

#include <limits>

#include "host/base/error.h"
#include "host/base/log.h"
#include "host/report/table.h"

namespace roundhouse {
namespace {

std::optional<int64_t> fitted(const CudaCard& card, const CardEstimate& estimate, const Recipe& recipe) {
  if (card.memory == 0 || estimate.work + estimate.activations <= card.memory) return recipe.memory;
  const std::string has = cat(card.name, " has ", format_bytes(card.memory)),
                    change = "choose a larger card or device: cpu";
  if (estimate.least > card.memory)
    throw Error(
        cat("one block of this model has ", format_bytes(estimate.least), " of weights, and ", has, ": ", change));
  if (estimate.work > card.memory)
    log::warning(cat("a block of this model needs about ", format_bytes(estimate.work), ", and ", has,
                     ": if memory runs out, ", change, ", or lower calibration.seqlen"));
  return recipe.memory ? recipe.memory : std::numeric_limits<int64_t>::max();
}

}  // namespace

std::string card_text(const CudaCard& card, const Plan& plan) {
  const CardEstimate estimate = estimate_on(card, plan);
  if (card.memory == 0 || estimate.work == 0) return "";
  const bool fits = estimate.activations == 0 || estimate.work + estimate.activations <= card.memory;
  return cat(
      card.name, ": about ", format_bytes(estimate.work + (fits ? estimate.activations : 0)), " of its ",
      format_bytes(card.memory),
      fits ? "" : cat(", and ", format_bytes(estimate.activations), " of activations in host memory, for want of room"),
      estimate.seconds > 0 ? cat(", about ", format_seconds(estimate.seconds)) : "");
}

std::optional<int64_t> fitted_memory(const CudaCard& card, const Plan& plan) {
  return fitted(card, estimate_on(card, plan), plan.recipe);
}

std::optional<int64_t> fitted_memory_of_measuring(const CudaCard& card, const Plan& plan) {
  return fitted(card, estimate_measuring(plan), plan.recipe);
}

}  // namespace roundhouse
