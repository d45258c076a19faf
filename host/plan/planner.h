// Makes plans.
#pragma once

#include "host/checkpoint/safetensors.h"
#include "host/discovery/catalogue.h"
#include "host/model/architecture.h"
#include "host/plan/plan.h"

namespace roundhouse {

// Asks every data type whether it can quantize, and every format whether it can hold, what the recipe wants of them.
// Collects all problems, then throws Error with all of them, and what could instead. `source` is only looked at.
Plan make_plan(const Recipe& recipe, const Architecture& architecture, TensorSource& source, Catalogue& catalogue);

}  // namespace roundhouse
