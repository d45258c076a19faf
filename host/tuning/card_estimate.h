// SPDX-License-Identifier: Apache-2.0
// What a run costs on a GPU, from what is known of the card. No libtorch here.
#pragma once

#include <cstdint>

#include "host/plan/plan.h"
#include "host/tuning/device.h"

namespace roundhouse {

struct CardEstimate {
  uint64_t activations =
      0;               // bytes of calibration activations between blocks, where the recipe leaves them on the card
  uint64_t work = 0;   // bytes of all else: a block, and a unit of samples on its way through it
  uint64_t least = 0;  // bytes of these without which nothing goes: a block's weights as they are computed with
  double seconds = 0;  // of the blocks; 0: the card's speed is not known
};

// Rough: see card_estimate.cpp.
CardEstimate estimate_on(const CudaCard& card, const Plan& plan);
// Of the measurement of its mix, without the time. REQUIRES: plan.mix.
CardEstimate estimate_measuring(const Plan& plan);

}  // namespace roundhouse
