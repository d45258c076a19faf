// SPDX-License-Identifier: Apache-2.0
// The texts of a recipe, as tokens.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "host/plan/original.h"
#include "host/plan/plan.h"

namespace roundhouse {

struct Texts {
  std::vector<std::vector<int32_t>> calibration, evaluation;  // token ids of each sample or sequence
  std::optional<int32_t> pad_id;
};

// Reads every record of the recipe's texts, so that whatever is wrong with one of them is known before the work. Where
// neither a pass nor a mix needs calibration data, what the recipe names must be readable all the same. Evaluation
// windows have at most the model's positions. Throws Error.
Texts load_texts(const Plan& plan, const Original& original);

}  // namespace roundhouse
