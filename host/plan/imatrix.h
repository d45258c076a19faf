// SPDX-License-Identifier: Apache-2.0
// A plan's importance matrix, and the files that hold one.
#pragma once

#include <filesystem>

#include "host/model/architecture.h"
#include "host/plan/plan.h"

namespace roundhouse {

// Reads plan.recipe.imatrix.file into plan.importance, for the layers with searched rounding; what does not fit becomes
// a problem of its layer. Throws Error for a file that is none.
void read_importance(Plan& plan, const Architecture& architecture);

// Writes what was collected on texts of `tokens` tokens as plan.recipe.imatrix.save.
void save_importance(const Plan& plan, const Architecture& architecture, const Importance& importance, int64_t tokens);

}  // namespace roundhouse
