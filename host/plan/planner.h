// SPDX-License-Identifier: Apache-2.0
// Makes plans.
#pragma once

#include "host/discovery/catalogue.h"
#include "host/plan/original.h"
#include "host/plan/plan.h"

namespace roundhouse {

// Asks every data type whether it can quantize, and every format whether it can hold, what the recipe wants of them.
// Collects all problems, then throws Error with all of them, and what could instead. `source` is only looked at.
// REQUIRES: !recipe.mix; mix.h has the plan of any recipe.
Plan make_plan(const Recipe& recipe, const Architecture& architecture, TensorSource& source, Catalogue& catalogue);
// The same, with the original's warnings.
Plan make_plan(const Recipe& recipe, const Original& original, Catalogue& catalogue);

}  // namespace roundhouse
