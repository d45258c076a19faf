// SPDX-License-Identifier: Apache-2.0
// Recipes that are written or shipped work as they stand.
#include <gtest/gtest.h>

#include "host/base/error.h"
#include "tests/cli/program.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;

class Init : public WorkFolder {
 protected:
  Outcome in_work(const std::string& arguments) const {
    return run_command("cd " + work_.string() + " && " + kProgram + " " + arguments);
  }
  static bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
  }
};

TEST_F(Init, ARecipeForEachEngineRuns) {
  const fs::path model = copy_model();
  for (const std::string engine : {"vllm", "sglang", "transformers", "llama.cpp"}) {
    const Outcome outcome = in_work("init " + model.string() + "/ --for " + engine);
    ASSERT_EQ(outcome.code, 0) << outcome.output;
    const std::string name = model.filename().string() + "-" + engine;
    EXPECT_TRUE(contains(outcome.output, "Wrote " + name + ".yaml: ")) << outcome.output;
    const std::string recipe = read(work_ / (name + ".yaml"));
    EXPECT_TRUE(contains(recipe, "\n  iters: 200\n")) << recipe;
    EXPECT_TRUE(contains(recipe, "\n  seqlen: 512 ")) << recipe;
    const Outcome run =
        in_work("run " + name + ".yaml --set tuning.iters=1 --set calibration.samples=8 --set calibration.seqlen=64");
    EXPECT_EQ(run.code, 0) << run.output;
    EXPECT_TRUE(fs::exists(work_ / name / "roundhouse/report.json"));
  }
}

TEST_F(Init, WithoutDataTheTextsThatShipStandIn) {
  const std::string recipe = "version: 1\nmodel: " + kExamples + "/tinystories-656k\noutput: out\nformats: [fake]\n" +
                             "calibration: {samples: 8, seqlen: 64}\ntuning: {iters: 1}\nscheme: ";
  const std::string said = "calibration.data is not given: the texts that ship with the program stand in for it";
  for (const char* scheme : {"W4A16\n", "{mix: [W4A16, W8A16], target: 6 bits}\n"}) {
    const Outcome outcome = in_work("plan " + write("r.yaml", recipe + scheme).string());
    EXPECT_EQ(outcome.code, 0) << outcome.output;
    EXPECT_TRUE(contains(outcome.output, said)) << outcome.output;
    EXPECT_TRUE(contains(outcome.output, "tinystories-calibration.jsonl, 8 samples of 64 tokens, packed"))
        << outcome.output;
  }
  const std::string plain = write("r.yaml", recipe + "W4A16\n").string();
  EXPECT_FALSE(contains(in_work("plan " + plain + " --set tuning.iters=0").output, said)) << "nothing needs texts";
  const Outcome outcome = in_work("run " + plain);
  ASSERT_EQ(outcome.code, 0) << outcome.output;
  EXPECT_TRUE(contains(read(work_ / "out/roundhouse/recipe.yaml"), "tinystories-calibration.jsonl"))
      << "to run it again";
}

TEST_F(Init, TakesWhatFits) {
  // A family that nobody has described, and columns that no group of 128 divides.
  const fs::path model = copy_model();
  std::string config = read(model / "config.json");
  config.replace(config.find("\"llama\""), 7, "\"lllama\"");
  write((model / "config.json").string(), config);
  Outcome outcome = in_work("init " + model.string() + " --for vllm --output r.yaml --result o");
  ASSERT_EQ(outcome.code, 0) << outcome.output;
  EXPECT_TRUE(contains(outcome.output, "plain rounding")) << outcome.output;
  EXPECT_TRUE(contains(read(work_ / "r.yaml"), "iters: 0 "));
  EXPECT_TRUE(contains(read(work_ / "r.yaml"), "output: \"o\"\n"));

  outcome = in_work("init " + model.string() + " --for vllm --output r.yaml");
  EXPECT_EQ(outcome.code, 1);
  EXPECT_TRUE(contains(outcome.output, "error: r.yaml already exists")) << outcome.output;
  // gguf needs a family's names.
  outcome = in_work("init " + model.string() + " --for llama.cpp --output g.yaml");
  EXPECT_EQ(outcome.code, 1);
  EXPECT_TRUE(contains(outcome.output, "error: nothing that llama.cpp reads fits ")) << outcome.output;
  EXPECT_FALSE(fs::exists(work_ / "g.yaml"));
  outcome = in_work("init " + model.string() + " --for vlm");
  EXPECT_TRUE(contains(outcome.output, "there is no engine \"vlm\" (did you mean vllm?); --for takes: "))
      << outcome.output;
}

TEST_F(Init, RecipesThatShipArePlannedWithoutAWarning) {
  int count = 0;
  for (const auto& entry : fs::directory_iterator(ROUNDHOUSE_SOURCE "/configs/recipes")) {
    const Outcome outcome = in_work("plan " + entry.path().string() + " --set output=" + (work_ / "out").string());
    EXPECT_EQ(outcome.code, 0) << outcome.output;
    EXPECT_FALSE(contains(outcome.output, "warning: ")) << entry.path() << "\n" << outcome.output;
    ++count;
  }
  EXPECT_GE(count, 10);
}

}  // namespace
}  // namespace roundhouse
