// SPDX-License-Identifier: Apache-2.0
// A plugin that crashes while it runs is named with its file, the call and the layer, and what was written is kept.
#include <csignal>
#include <string>

#include "tests/cli/program.h"

namespace roundhouse {
namespace {

const std::string kDtype = PLUGIN_FIXTURES "/librh_fixture_good.so";
const std::string kFormat = PLUGIN_FIXTURES "/librh_fixture_format.so";

class Crash : public WorkFolder {
 protected:
  // A run in which the fixtures end the process as `wish` says.
  Outcome crash(const std::string& wish, const std::string& formats = "[fixture_format]") const {
    const auto recipe = write_recipe("formats: " + formats + "\n").string() +
                        " --set tuning.iters=0 --set 'scheme={data_type: fixture, bits: 8}'";
    return run_command("FIXTURE_CRASH=" + wish + " XDG_CACHE_HOME=" + work_.string() + " " + kProgram + " --plugin " +
                       kDtype + " --plugin " + kFormat + " --threads 2 run " + recipe);
  }
  void expect(const Outcome& outcome, int code, const std::string& words) const {
    EXPECT_EQ(outcome.code, code) << outcome.output;
    EXPECT_NE(outcome.output.find(words), std::string::npos) << words << " is not in:\n" << outcome.output;
  }
  std::string kept() const {
    return "\n  Not finished: " + (work_ / "out").string() + ". The files that were complete are kept in " +
           (work_ / "out.partial").string() + " until the next run that writes there.\n";
  }
};

const std::string kFirstLayer = " of model.layers.0.self_attn.q_proj";

TEST_F(Crash, SaysPluginCallLayerAndWhatIsKept) {
  const Outcome outcome = crash("encode=SIGSEGV");
  expect(outcome, 128 + SIGSEGV,
         "error: plugin fixture (" + kDtype + ") crashed with SIGSEGV (memory that is not its own) in encode" +
             kFirstLayer + kept());
  EXPECT_FALSE(std::filesystem::exists(work_ / "out"));
  EXPECT_TRUE(std::filesystem::exists(work_ / "out.partial/.roundhouse"));
  expect(crash("none"), 0, "Report: ");  // the next run is not in its way
  EXPECT_FALSE(std::filesystem::exists(work_ / "out.partial"));
}

TEST_F(Crash, EndingTheProcessIsNamedWhicheverWay) {
  for (const std::string way : {"exit", "quick_exit", "_exit", "_Exit"})
    expect(crash("encode=" + way), 1,
           "error: plugin fixture (" + kDtype + ") called " + way + "() in encode" + kFirstLayer + kept());
}

TEST_F(Crash, OfAFormatToo) {
  const std::string plugin = "error: plugin fixture_format (" + kFormat + ") crashed with ";
  expect(crash("add_layer=SIGSEGV"), 128 + SIGSEGV,
         plugin + "SIGSEGV (memory that is not its own) in add_layer" + kFirstLayer + kept());
  expect(crash("add_layer=terminate"), 128 + SIGABRT,
         plugin + "SIGABRT (abort, or an exception that nothing caught) in add_layer" + kFirstLayer + kept());
}

TEST_F(Crash, AnExceptionIsAnErrorAndLeavesNothing) {
  const Outcome outcome = crash("add_layer=throw");
  expect(outcome, 1, "plugin fixture_format (" + kFormat + "), add_layer" + kFirstLayer + ": thrown by the fixture");
  EXPECT_EQ(outcome.output.find("crashed"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(work_ / "out.partial"));
}

}  // namespace
}  // namespace roundhouse
