// SPDX-License-Identifier: Apache-2.0
// roundhouse-validate as a program: exit codes, lists, files that are no plugins.
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/validator/validator_run.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;

TEST(ValidateProgram, BadUsageIsTwoWithOneLine) {
  for (const std::string arguments : {"", "--no-such-option", "/no/such/file.so", "--include 'no.such*' x.so"}) {
    const ValidatorRun run = validate(arguments);
    EXPECT_EQ(run.exit_code, 2) << arguments << run.output;
  }
  EXPECT_NE(validate("/no/such/file.so").output.find("/no/such/file.so"), std::string::npos);
}

TEST(ValidateProgram, AFileThatIsNoPluginIsTwo) {
  const fs::path file = fs::temp_directory_path() / ("validate_test." + std::to_string(::getpid()) + ".so");
  std::ofstream(file) << "text";
  ValidatorRun run = validate(file.string());
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_NE(run.output.find("is not an ELF file"), std::string::npos) << run.output;
  fs::copy_file(fixture("dtype_None"), file, fs::copy_options::overwrite_existing);
  fs::resize_file(file, 3000);
  run = validate(file.string());
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_NE(run.output.find("cut off"), std::string::npos) << run.output;
  fs::remove(file);
  run = validate(std::string(FIXTURES) + "/lib/libtorch.so");
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_NE(run.output.find("no Roundhouse plugin"), std::string::npos) << run.output;
}

TEST(ValidateProgram, ChoosesTestsAndCountsFailures) {
  ValidatorRun run = validate(fixture("dtype_None") + " --include 'library.*' --exclude library.leaks");
  EXPECT_EQ(run.exit_code, 0) << run.output;
  EXPECT_NE(run.output.find("library.exports"), std::string::npos);
  EXPECT_EQ(run.output.find("library.leaks"), std::string::npos);
  EXPECT_EQ(run.output.find("dtype."), std::string::npos);
  run = validate(fixture("dtype_SlowInit") + " --include 'library.*'");
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_NE(run.output.find("init runs under 100 ms (entry.h)"), std::string::npos) << run.output;
}

TEST(ValidateProgram, RunsInProcess) {
  EXPECT_EQ(validate(fixture("dtype_None") + " --in-process --include 'library.*'").exit_code, 0);
  EXPECT_EQ(validate(fixture("dtype_WrongEncode") + " --in-process --include dtype.round-trip").exit_code, 1);
}

TEST(ValidateProgram, SaysHowAPluginCrashedOrHungAndWhere) {
  nlohmann::json test =
      validate(fixture("dtype_AbortsInInit") + " --json --include library.offers").test("library.offers");
  EXPECT_EQ(test.at("status"), "crashed");
  EXPECT_EQ(test.at("actual"), "SIGABRT");
  EXPECT_EQ(test.at("where"), "init");
  test = validate(fixture("dtype_HangsInInit") + " --json --timeout 1 --include library.offers").test("library.offers");
  EXPECT_EQ(test.at("status"), "crashed");
  EXPECT_EQ(test.at("actual"), "no answer after 1 s");
  test = validate(fixture("dtype_ExitsInInit") + " --json --include library.offers").test("library.offers");
  EXPECT_EQ(test.at("actual"), "the process ended with status 0");
}

// The manual lists the tests as the program does.
TEST(ValidateProgram, TheManualListsEveryTest) {
  std::ifstream file(std::string(ROUNDHOUSE_SOURCE) + "/docs/validator.md");
  std::string listed, expected;
  for (std::string line; std::getline(file, line);)
    if (line.rfind("| `", 0) == 0 && line.rfind("| `--", 0) != 0) listed += line + "\n";
  for (const auto& test : validate("--list --json").json())
    expected += "| `" + test.at("id").get<std::string>() + "` | " + test.at("rule").get<std::string>() + " | " +
                test.at("header").get<std::string>() + " |\n";
  EXPECT_EQ(listed, expected);
}

}  // namespace
}  // namespace roundhouse
