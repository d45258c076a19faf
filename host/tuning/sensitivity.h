// SPDX-License-Identifier: Apache-2.0
// What each scheme of a mix costs, layer by layer. No libtorch here.
//
// The expected Kullback-Leibler divergence that an error d of a weight brings is d^T F d / 2 to second order; F is the
// Fisher information: the mean of g g^T over tokens, where g is the gradient of -log p of a token that is drawn from
// the model's own prediction. Rounding errors are about independent of each other, so that the diagonal is what counts:
// the squares of the gradient of each sample, whose tokens are summed before.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "host/discovery/catalogue.h"
#include "host/model/architecture.h"
#include "host/plan/mix.h"
#include "host/tuning/results.h"

namespace roundhouse {

struct SensitivityInput {
  const MixPlan& mix;
  const Architecture& architecture;
  TensorSource& source;
  Catalogue& catalogue;
  const std::vector<std::vector<int32_t>>& samples;  // calibration ids, all of one length
  std::optional<int32_t> pad_id;
  std::string device = "cpu";
  std::optional<int64_t> memory = {};                              // as the recipe's: of activations
  std::function<void(int64_t step, int64_t steps)> progress = {};  // before each: up the blocks, and down again
};

// Of the layers of the mix's groups. Runs the first samples up the blocks and gradients down again; holds the weights
// of one block at a time, and the samples' activations between all blocks, as far as `memory` allows. A
// layer that will be tuned is searched, or rounded where its data type has no search. Same plan and samples: same bits,
// whatever the thread count. Throws Error.
Sensitivities measure_sensitivities(const SensitivityInput& input);

}  // namespace roundhouse
