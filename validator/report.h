// SPDX-License-Identifier: Apache-2.0
// What the validator prints.
#pragma once

#include <nlohmann/json.hpp>
#include <utility>

#include "validator/test.h"

namespace roundhouse::validator {

using TestResult = std::pair<const Test*, Result>;

// One line a test; the rule, the place and what was expected under those that did not pass.
void print_result(const TestResult& result);
void print_summary(const std::vector<TestResult>& results);
nlohmann::json to_json(const std::filesystem::path& plugin, const std::vector<TestResult>& results);
void print_tests(const std::vector<const Test*>& tests, bool as_json);

}  // namespace roundhouse::validator
