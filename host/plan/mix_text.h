// SPDX-License-Identifier: Apache-2.0
// Mixes as text and JSON.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "host/plan/mix_plan.h"

namespace roundhouse {

// For `roundhouse plan`: what was chosen, each scheme alone, and the least loss at some sizes; or the bounds alone.
std::string describe(const MixPlan& mix);
// What was chosen, in a line. REQUIRES: mix.chosen.
std::string summary(const MixPlan& mix);
// As run_report.h has it; without losses where they are not measured.
nlohmann::json to_json(const MixPlan& mix);

}  // namespace roundhouse
