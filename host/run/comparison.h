// SPDX-License-Identifier: Apache-2.0
// Two runs beside each other, from the reports that they left.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace roundhouse {

// The report.json of a run: `place` is its output folder, or that file. Throws Error.
nlohmann::json read_report(const std::filesystem::path& place);

struct Comparison {
  struct Table {
    std::string title;
    std::vector<std::vector<std::string>> rows;  // the first is the header
  };
  std::vector<Table> tables;  // checkpoints; what the recipes say otherwise; blocks; costs. None of them is empty
  std::vector<std::pair<double, double>> block_errors;  // of A and of B after quantized blocks; 0: not measured
};

Comparison compare(const nlohmann::json& a, const nlohmann::json& b);

}  // namespace roundhouse
