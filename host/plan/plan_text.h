// SPDX-License-Identifier: Apache-2.0
// Plans as text and JSON.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "host/plan/plan.h"

namespace roundhouse {

// The text with "the layer" for its name, but what is quoted, in brackets or quotation marks, as it was written.
std::string without_name(const std::string& text, const std::string& name);

// What `roundhouse plan` prints: layers with the same scheme in one line.
std::string describe(const Plan& plan);
// All problems, layers that have the same in one line; "" when there are none.
std::string describe_problems(const Plan& plan, const std::string& heading = "this recipe cannot be run:");

// What `roundhouse plan --json` prints.
nlohmann::json to_json(const Plan& plan);

}  // namespace roundhouse
