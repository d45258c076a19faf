// SPDX-License-Identifier: Apache-2.0
// Each fixture breaks one rule, and the validator says which.
#include <fstream>
#include <set>
#include <sstream>
#include <tuple>
#include <vector>

#include "tests/validator/validator_run.h"

namespace roundhouse {
namespace {

struct Mutant {
  std::string kind, defect, test;
};

std::vector<Mutant> mutants() {
  std::vector<Mutant> out;
  std::ifstream file(DEFECTS);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    Mutant m;
    if (line[0] != '#' && words >> m.kind >> m.defect >> m.test) out.push_back(m);
  }
  return out;
}

// Ends what hangs; long enough for a busy machine.
constexpr const char* kTimeLimit = " --timeout 20";

bool noticed(const Mutant& m, std::string& report) {
  const std::string limit = m.defect.rfind("Hangs", 0) == 0 ? " --timeout 3" : kTimeLimit;
  const ValidatorRun run = validate(fixture(m.kind + "_" + m.defect) + " --json --include " + m.test + limit);
  report = run.output;
  const nlohmann::json test = run.test(m.test);
  if (!test.is_object() || run.exit_code == 0) return false;
  const bool says = !test.at("rule").get<std::string>().empty() && !test.at("where").get<std::string>().empty() &&
                    !test.at("actual").get<std::string>().empty();
  return says && (test.at("status") == "failed" || test.at("status") == "crashed");
}

TEST(Mutation, EveryDefectIsNoticedByTheTestOfItsRule) {
  const std::vector<Mutant> all = mutants();
  ASSERT_GE(all.size(), 40u);
  size_t caught = 0;
  for (const Mutant& m : all) {
    std::string report;
    const bool yes = noticed(m, report);
    caught += yes;
    EXPECT_TRUE(yes) << m.kind << " " << m.defect << " passed " << m.test << ":\n" << report;
  }
  std::printf("mutation score: %zu of %zu (%.0f %%)\n", caught, all.size(),
              100.0 * static_cast<double>(caught) / static_cast<double>(all.size()));
  EXPECT_EQ(caught, all.size());
}

TEST(Mutation, TheFixturesWithoutADefectPassEverything) {
  for (const char* kind : {"dtype", "format"}) {
    const ValidatorRun run = validate(fixture(std::string(kind) + "_None") + " --json");
    EXPECT_EQ(run.exit_code, 0) << run.output;
    const nlohmann::json counts = run.json().at("counts");
    EXPECT_EQ(counts.at("failed"), 0) << run.output;
    EXPECT_EQ(counts.at("crashed"), 0) << run.output;
    EXPECT_EQ(counts.at("warning"), 0) << run.output;
    for (const auto& test : run.json().at("tests")) {
      const std::string id = test.at("id");
      if (test.at("status") != "skipped") continue;
      // Only what the other kind of plugin is asked.
      const std::string other = std::string(kind) == "dtype" ? "format" : "dtype";
      EXPECT_TRUE(id.rfind(other + ".", 0) == 0 || id == "descriptors." + other + "s") << id;
    }
  }
}

// A test that no defect can fail proves nothing.
TEST(Mutation, AlmostEveryTestHasADefect) {
  std::set<std::string> proven;
  for (const Mutant& m : mutants()) proven.insert(m.test);
  const nlohmann::json tests = validate("--list --json").json();
  std::string unproven;
  for (const auto& test : tests)
    if (!proven.count(test.at("id"))) unproven += test.at("id").get<std::string>() + " ";
  EXPECT_EQ(unproven, "descriptors.threads format.threads ");
}

}  // namespace
}  // namespace roundhouse
