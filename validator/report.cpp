// SPDX-License-Identifier: Apache-2.0
#include "validator/report.h"

#include <cstdio>
#include <map>

namespace roundhouse::validator {
namespace {

using nlohmann::json;

std::map<std::string, int> counts(const std::vector<TestResult>& results) {
  std::map<std::string, int> out{{"passed", 0}, {"failed", 0}, {"crashed", 0}, {"skipped", 0}, {"warning", 0}};
  for (const auto& [test, result] : results) ++out[result.status];
  return out;
}

void line(const char* label, const std::string& what) {
  if (!what.empty()) std::printf("           %-9s %s\n", label, what.c_str());
}

}  // namespace

void print_result(const TestResult& pair) {
  const auto& [test, result] = pair;
  std::printf("  %-8s %-34s %6.2f s\n", result.status.c_str(), test->id.c_str(), result.seconds);
  if (result.status == "passed") return;
  if (result.status != "skipped") line("rule", test->rule + " (" + test->header + ")");
  line(result.status == "skipped" ? "because" : "where", result.where);
  line("expected", result.expected);
  line("actual", result.actual);
}

void print_summary(const std::vector<TestResult>& results) {
  auto n = counts(results);
  std::printf("\n%zu tests: %d passed, %d failed, %d crashed, %d skipped, %d with a warning\n", results.size(),
              n["passed"], n["failed"], n["crashed"], n["skipped"], n["warning"]);
}

json to_json(const std::filesystem::path& plugin, const std::vector<TestResult>& results) {
  json tests = json::array();
  for (const auto& [test, result] : results) {
    tests.push_back({{"id", test->id},
                     {"rule", test->rule},
                     {"header", test->header},
                     {"status", result.status},
                     {"where", result.where},
                     {"expected", result.expected},
                     {"actual", result.actual},
                     {"seconds", result.seconds}});
  }
  return {{"plugin", plugin.string()}, {"tests", tests}, {"counts", counts(results)}};
}

void print_tests(const std::vector<const Test*>& tests, bool as_json) {
  json list = json::array();
  for (const Test* test : tests) {
    if (as_json)
      list.push_back({{"id", test->id}, {"rule", test->rule}, {"header", test->header}});
    else
      std::printf("%-34s %s (%s)\n", test->id.c_str(), test->rule.c_str(), test->header.c_str());
  }
  if (as_json) std::printf("%s\n", list.dump(1).c_str());
}

}  // namespace roundhouse::validator
