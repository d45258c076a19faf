// SPDX-License-Identifier: Apache-2.0
// What shells and man get of the command line, and what it says of a word that it does not know.
#include <gtest/gtest.h>

#include "tests/cli/program.h"

namespace roundhouse {
namespace {

// What bash offers at the end of a command line.
std::string offered(const std::string& line, int words) {
  const Outcome outcome =
      run_command("bash -c 'source <(" + kProgram + " completions bash); COMP_WORDS=(" + line +
                  "); COMP_CWORD=" + std::to_string(words) + "; _roundhouse; echo \"${COMPREPLY[*]}\"'");
  EXPECT_EQ(outcome.code, 0) << outcome.output;
  return outcome.output;
}

TEST(Shell, BashCompletesCommandsAndTheirOptions) {
  EXPECT_EQ(offered("roundhouse pl", 1), "plan plugins\n");
  EXPECT_EQ(offered("roundhouse --verbose plan --d", 3), "--deep\n");
  EXPECT_EQ(offered("roundhouse --threads 4 plan --d", 4), "--deep\n");
  EXPECT_EQ(offered("roundhouse completions f", 2), "fish\n");
  EXPECT_EQ(offered("roundhouse plugins i", 2), "inspect\n");
  EXPECT_EQ(offered("roundhouse plugins inspect --j", 3), "--json\n");
  EXPECT_EQ(offered("roundhouse nothing x", 2), "\n");
}

TEST(CommandLine, ForAWordThatItDoesNotKnowItNamesTheNearest) {
  const auto said = [](const std::string& words) {
    const Outcome outcome = run_command(kProgram + " " + words);
    EXPECT_EQ(outcome.code, 1) << outcome.output;
    return outcome.output;
  };
  const auto has = [](const std::string& output, const char* text) {
    EXPECT_NE(output.find(text), std::string::npos) << output;
  };
  has(said("verfy x"), R"("verfy" is no command or option here (did you mean verify?). roundhouse --help lists them.)");
  has(said("run x.yaml --overwite"),
      R"("--overwite" is no command or option here (did you mean --overwrite?). roundhouse run --help lists them.)");
  has(said("plugins inspct"), "(did you mean inspect?). roundhouse plugins --help lists them.");
  has(said("eval x --tread=4"), "(did you mean --threads?)");
  has(said("run a.yaml b.yaml"), R"("b.yaml" is no command or option here. roundhouse run --help lists them.)");
}

TEST(Shell, EveryCommandIsInThePageAndInFish) {
  const std::string page = run_command(kProgram + " man").output,
                    fish = run_command(kProgram + " completions fish").output;
  for (const char* command :
       {"run", "plan", "eval", "verify", "convert", "init", "doctor", "schema", "compare", "new\\-plugin"})
    EXPECT_NE(page.find(std::string("\n.SS ") + command + "\n"), std::string::npos) << command << "\n" << page;
  EXPECT_NE(page.find("\n.TP\n\\fB\\-\\-deep\\fR\n"), std::string::npos) << page;
  EXPECT_NE(page.find("\n.TP\n\\fB\\-\\-threads\\fR \\fIINT\\fR\n"), std::string::npos) << page;
  EXPECT_NE(page.find("\n.TP\n\\fBRECIPE\\fR\n"), std::string::npos) << page;
  EXPECT_NE(fish.find("complete -c roundhouse -n __fish_use_subcommand -a doctor -d "), std::string::npos) << fish;
  EXPECT_NE(fish.find("complete -c roundhouse -n \'__fish_seen_subcommand_from plan\' -l deep -d "), std::string::npos)
      << fish;
  EXPECT_EQ(run_command(kProgram + " completions tcsh").code, 105);
}

}  // namespace
}  // namespace roundhouse
