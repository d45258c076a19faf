// SPDX-License-Identifier: Apache-2.0
// What formats are told of a plan, and their answers.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "host/abi/loaded.h"
#include "host/abi/views.h"
#include "host/plan/plan.h"

namespace roundhouse {

// REQUIRES: the layer has an encoding.
FormatLayer format_layer(const LayerPlan& layer);
// All tensors, for a format with these options. `architecture` is Architecture::facts().
std::unique_ptr<PlanView> plan_view(const Plan& plan, const nlohmann::json& options,
                                    const nlohmann::json& architecture);
// Asks the format what it will do with each tensor, and writes what it refuses to plan.problems and its layers'
// problems; returns those that it omits. Throws Error when it refuses the plan as a whole.
std::vector<std::pair<std::string, std::string>> ask_format(Plan& plan, const FormatChoice& format,
                                                            const LoadedFormat& loaded,
                                                            const nlohmann::json& architecture);
// The keys "plan" and "tuning" of ext/model.h.
nlohmann::json plan_facts(const Plan& plan);
nlohmann::json tuning_facts(const Recipe& recipe);

}  // namespace roundhouse
