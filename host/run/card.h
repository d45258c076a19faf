// SPDX-License-Identifier: Apache-2.0
// What a run will ask of a GPU, in words, and what it does where there is not room for it all.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "host/tuning/card_estimate.h"

namespace roundhouse {

// What the card will be used for, in a line: "NVIDIA H100: about 12 GB of its 80 GB, about 5 min". "": nothing is known of it.
std::string card_text(const CudaCard& card, const Plan& plan);

// The recipe's `memory` for this card: where the activations do not fit beside the work, they are to stay in host memory,
// which changes no bit. Warns where the work alone may have no room: that is an estimate, and the run ends with what to
// change if it has none. Throws Error where it cannot have any: one block's weights are more than the card's memory.
std::optional<int64_t> fitted_memory(const CudaCard& card, const Plan& plan);
// The same for the measurement of its mix. REQUIRES: plan.mix.
std::optional<int64_t> fitted_memory_of_measuring(const CudaCard& card, const Plan& plan);

}  // namespace roundhouse
