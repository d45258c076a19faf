// SPDX-License-Identifier: Apache-2.0
// Layers that an engine fuses into one.
#pragma once

#include <vector>

#include "host/discovery/catalogue.h"
#include "host/plan/plan.h"

namespace roundhouse {

// Layers that an engine of the plan's formats fuses, each lot together.
std::vector<std::vector<const LayerPlan*>> fused_layers(const Plan& plan, const Catalogue& catalogue);

// Warns, with the entry under `layers:` that helps, where layers that an engine of the plan's formats fuses would not be
// quantized alike.
void warn_of_fused(Plan& plan, const Catalogue& catalogue);

}  // namespace roundhouse
