// SPDX-License-Identifier: Apache-2.0
// Whole runs: the files that appear, and the same bits whatever the thread count.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "host/checkpoint/safetensors.h"
#include "host/report/table.h"
#include "tests/cli/program.h"

namespace roundhouse {
namespace {

class Run : public WorkFolder {};

TEST_F(Run, SeveralFormatsFromOneTuning) {
  const Outcome outcome =
      run("run " + write_recipe("formats: [auto_round, auto_gptq, fake]\nevaluation: {data: " + kExamples +
                                "/texts/tinystories-heldout.jsonl, seqlen: 64}\n")
                       .string());
  ASSERT_EQ(outcome.code, 0) << outcome.output;
  for (const char* format : {"auto_round", "auto_gptq", "fake"}) {
    EXPECT_TRUE(std::filesystem::exists(work_ / "out" / format / "model.safetensors")) << format;
    EXPECT_TRUE(std::filesystem::exists(work_ / "out" / format / "tokenizer.json")) << format;
  }
  const auto report = nlohmann::json::parse(read(work_ / "out/roundhouse/report.json"));
  ASSERT_EQ(report["models"].size(), 5u) << "original, plain rounding, three exports";
  const double tuned = report["models"][2]["perplexity"];
  for (int i : {3, 4}) EXPECT_NEAR(report["models"][i]["perplexity"].get<double>(), tuned, 1e-3) << "same weights";
  EXPECT_EQ(report["blocks"].size(), 2u);
  EXPECT_LE(report["blocks"][0]["best_loss"].get<double>(), report["blocks"][0]["first_loss"].get<double>());
  EXPECT_NE(read(work_ / "out/roundhouse/report.html").find("<svg"), std::string::npos);
}

TEST_F(Run, OverwriteTakesAnyNumberOfFormats) {
  const std::string recipe = write_recipe().string() + " --set tuning.iters=0 --overwrite";
  for (const char* formats : {"[auto_round,fake]", "[fake]", "[auto_round,auto_gptq]"}) {
    const Outcome outcome = run("run " + recipe + " --set formats=" + formats);
    EXPECT_EQ(outcome.code, 0) << formats << ": " << outcome.output;
  }
}

TEST_F(Run, SameSeedSameBitsForAnyThreadCount) {
  const std::string recipe = write_recipe().string();
  for (const char* threads : {"1", "2", "3"}) {
    const Outcome outcome = run("run " + recipe + " --set tuning.iters=20 --threads " + threads +
                                " --set output=" + (work_ / threads).string());
    ASSERT_EQ(outcome.code, 0) << outcome.output;
  }
  // Not EXPECT_EQ, which would print a megabyte.
  const std::string one = read(work_ / "1/model.safetensors");
  EXPECT_TRUE(one == read(work_ / "2/model.safetensors"));
  EXPECT_TRUE(one == read(work_ / "3/model.safetensors"));
  const Outcome other = run(
      "run " + recipe + " --set tuning.iters=20 --set calibration.seed=7 --set output=" + (work_ / "other").string());
  ASSERT_EQ(other.code, 0) << other.output;
  EXPECT_FALSE(one == read(work_ / "other/model.safetensors")) << "another seed draws other samples";
}

TEST_F(Run, CtrlCEndsItAndLeavesNothing) {
  const std::string recipe = write_recipe().string() + " --set tuning.iters=100000";
  // Job control, for without it a shell lets its children ignore SIGINT.
  const Outcome outcome =
      run_command("bash -c 'set -m; " + kProgram + " run " + recipe + " & while kill -0 $! && [ ! -e " +
                  (work_ / "out.partial").string() + " ]; do sleep 0.1; done; sleep 1; kill -INT $!; wait $!'");
  EXPECT_EQ(outcome.code, 130) << outcome.output;
  EXPECT_NE(outcome.output.find("cancelled"), std::string::npos) << outcome.output;
  for (const auto& entry : std::filesystem::directory_iterator(work_))
    EXPECT_EQ(entry.path().filename(), "recipe.yaml") << "left over";
}

TEST_F(Run, GradientAccumulationWorks) {
  const Outcome outcome =
      run("run " + write_recipe("").string() +
          " --set tuning.gradient_accumulation=2 --set calibration.batch_size=4 --set tuning.iters=3");
  EXPECT_EQ(outcome.code, 0) << outcome.output;
}

TEST_F(Run, SavedRecipeRunsAgainToTheSameBits) {
  ASSERT_EQ(run("run " + write_recipe().string()).code, 0);
  const std::string first = read(work_ / "out/model.safetensors");
  const Outcome again =
      run("run " + (work_ / "out/roundhouse/recipe.yaml").string() + " --set output=" + (work_ / "again").string());
  ASSERT_EQ(again.code, 0) << again.output;
  EXPECT_TRUE(first == read(work_ / "again/model.safetensors"));
}

TEST_F(Run, SavedRecipeRunsWhereItLies) {
  ASSERT_EQ(run("run " + write_recipe().string()).code, 0);
  const std::string first = read(work_ / "out/model.safetensors");
  const Outcome again = run("run --overwrite " + (work_ / "out/roundhouse/recipe.yaml").string());
  ASSERT_EQ(again.code, 0) << again.output;
  EXPECT_TRUE(first == read(work_ / "out/model.safetensors"));
}

// From the moment that the exports are there, so is all that belongs to them.
TEST_F(Run, AKillInTheEvaluationLosesNothing) {
  const std::string recipe = write_recipe("formats: [auto_round, fake]\nevaluation: {data: " + kExamples +
                                          "/texts/tinystories-heldout.jsonl, seqlen: 64}\n")
                                 .string();
  run_command("bash -c '" + kProgram + " run " + recipe + " & while kill -0 $! && [ ! -e " + (work_ / "out").string() +
              " ]; do sleep 0.01; done; kill -9 $!; wait $!'");
  for (const char* file :
       {"auto_round/model.safetensors", "auto_round/SHA256SUMS", "fake/model.safetensors", "roundhouse/recipe.yaml",
        "roundhouse/report.json", "roundhouse/report.html", "roundhouse/fingerprints.safetensors"})
    EXPECT_TRUE(std::filesystem::exists(work_ / "out" / file)) << file;
  const Outcome outcome = run("verify --deep " + (work_ / "out/auto_round").string());
  EXPECT_EQ(outcome.code, 0) << outcome.output;
}

TEST_F(Run, SeveralFormatsDoNotGoIntoAnotherCheckpoint) {
  ASSERT_EQ(run("run " + write_recipe("formats: [auto_round]\n").string()).code, 0);
  const std::string first = read(work_ / "out/model.safetensors");
  const Outcome outcome = run("run " + write_recipe("formats: [auto_gptq, fake]\n").string());
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.output, "error: the output folder " + (work_ / "out").string() +
                                " exists already. Choose another one, or pass --overwrite.\n");
  EXPECT_TRUE(first == read(work_ / "out/model.safetensors"));
}

TEST_F(Run, OverwritingSparesModelsOfOthers) {
  const std::string recipe = write_recipe("formats: [auto_round, fake]\n").string();
  ASSERT_EQ(run("run " + recipe).code, 0);
  write("out/mine/config.json", "{}");
  const Outcome outcome = run("run --overwrite " + recipe);
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.output, "error: the output folder " + (work_ / "out").string() + " would be replaced, and " +
                                (work_ / "out/mine").string() +
                                " is a model that this run does not write. Move it, or choose another output.\n");
  std::filesystem::remove_all(work_ / "out/mine");
  EXPECT_EQ(run("run --overwrite " + recipe).code, 0);
}

// A README.md that was written into an export went with it.
TEST_F(Run, OverwritingSparesFilesOfOthers) {
  const auto refusal = [&](const std::string& what) {
    return "error: the output folder " + (work_ / "out").string() + " would be replaced, and " + what +
           ", or choose another output.\n";
  };
  for (const auto& [formats, inside] : {std::pair{"[fake]", ""}, {"[auto_round, fake]", "fake/"}}) {
    const std::string recipe =
        write_recipe(std::string("formats: ") + formats + "\n").string() + " --set tuning.iters=0 --overwrite";
    ASSERT_EQ(run("run " + recipe).code, 0);
    const std::string deep = inside + std::string("notes/a.txt");
    write("out/" + deep, "mine");
    write("out/README.md", "mine");
    write("out/b.tmp", "mine");
    write("out/roundhouse/thoughts.md", "mine");
    std::filesystem::create_directory_symlink(work_ / "elsewhere", work_ / "out/Data");
    const std::string first = "out/" + std::string(inside) + "SHA256SUMS", digests = read(work_ / first);
    Outcome outcome = run("run " + recipe);
    EXPECT_EQ(outcome.code, 1);
    EXPECT_EQ(outcome.output, refusal("no run has written what it holds beside its export: Data, README.md, b.tmp, " +
                                      deep + ", roundhouse/thoughts.md. Move that"));
    EXPECT_EQ(read(work_ / "out" / deep), "mine");
    EXPECT_FALSE(std::filesystem::exists(work_ / "out.partial"));
    write(first, digests.substr(0, digests.find('\n', digests.size() / 2) + 1));
    outcome = run("run " + recipe);
    EXPECT_EQ(outcome.code, 1);
    EXPECT_EQ(outcome.output, refusal("what in it is not a run's cannot be told: " + (work_ / first).string() +
                                      " does not have the lines that its first line says: it was cut, damaged or "
                                      "edited. Remove the folder"));
    write(first, digests);
    std::filesystem::remove_all(work_ / "out" / inside / "notes");
    for (const char* file : {"README.md", "b.tmp", "roundhouse/thoughts.md", "Data"})
      std::filesystem::remove(work_ / "out" / file);
    EXPECT_EQ(run("run " + recipe).code, 0);
  }
}

TEST_F(Run, OverwritingSparesFilesThatCameWhileItRan) {
  const std::string recipe = write_recipe().string() + " --overwrite", out = (work_ / "out").string();
  ASSERT_EQ(run("run " + recipe).code, 0);
  const Outcome outcome =
      run_command("bash -c '" + kProgram + " run " + recipe + " & while kill -0 $! && [ ! -e " + out +
                  ".partial/model.safetensors.tmp ]; do sleep 0.01; done; echo mine > " + out + "/README.md; wait $!'");
  EXPECT_EQ(outcome.code, 1) << outcome.output;
  EXPECT_NE(outcome.output.find("beside its export: README.md."), std::string::npos) << outcome.output;
  EXPECT_EQ(read(work_ / "out/README.md"), "mine\n");
  std::filesystem::remove(work_ / "out/README.md");
  EXPECT_EQ(run("run " + recipe).code, 0);
}

TEST_F(Run, UntouchedTensorsComeThroughUnchanged) {
  ASSERT_EQ(run("run " + write_recipe().string() + " --set tuning.iters=0").code, 0);
  SafetensorsFolder before(kExamples + "/tinystories-656k"), after(work_ / "out");
  EXPECT_EQ(before.names().size(), after.names().size());
  const std::string norm = "model.layers.1.input_layernorm.weight";
  const Tensor a = before.load(norm), b = after.load(norm);
  ASSERT_EQ(a.bytes(), b.bytes());
  EXPECT_EQ(std::memcmp(a.data(), b.data(), a.bytes()), 0);
}

TEST_F(Run, LayersCanBeLeftAloneOrOverridden) {
  const std::string recipe = write_recipe(
                                 "layers:\n  - {match: model.layers.0.mlp.down_proj, scheme: none}\n"
                                 "  - {match: \"re:.*q_proj\", bits: 8}\nformats: [auto_round]\n")
                                 .string();
  const Outcome plan = run("plan " + recipe);
  ASSERT_EQ(plan.code, 0) << plan.output;
  ASSERT_EQ(run("run " + recipe).code, 0);
  SafetensorsFolder exported(work_ / "out");
  EXPECT_TRUE(exported.contains("model.layers.0.mlp.down_proj.weight"));
  EXPECT_TRUE(exported.contains("model.layers.1.mlp.down_proj.qweight"));
  EXPECT_EQ(exported.info("model.layers.0.self_attn.q_proj.qweight").shape[0], 128 * 8 / 32);
  EXPECT_EQ(exported.info("model.layers.0.self_attn.o_proj.qweight").shape[0], 128 * 4 / 32);
}

TEST_F(Run, ALogInTheModelsFolderChangesNoModel) {
  const std::string model = copy_model().string();
  const Outcome outcome = run("run " + write_recipe().string() + " --set model=" + model + " > " + model + "/run.log");
  EXPECT_EQ(outcome.code, 0) << outcome.output << read(model + "/run.log");
}

TEST_F(Run, TwoRunsAreComparedFromTheirReports) {
  const std::string data = "evaluation: {data: " + kExamples + "/texts/tinystories-heldout.jsonl, seqlen: 32}\n";
  const std::string recipe = write_recipe(data).string();
  for (const std::string more : {"a", "b --set scheme=W3A16G32"}) {
    const Outcome outcome = run("run " + recipe + " --set output=" + (work_ / more).string());
    ASSERT_EQ(outcome.code, 0) << outcome.output;
  }
  const std::string a = (work_ / "a").string(), b = (work_ / "b/roundhouse/report.json").string();
  const Outcome outcome = run("compare " + a + " " + b + " --page " + (work_ / "page.html").string());
  ASSERT_EQ(outcome.code, 0) << outcome.output;
  const std::string page = read(work_ / "page.html");
  const auto report = nlohmann::json::parse(read(work_ / "b/roundhouse/report.json"));
  for (const std::string& part :
       {std::string("A: " + a + "\nB: " + b + "\n"), std::string("\nscheme.bits  "),
        std::string("\nscheme.group_size  "), format_number(report["models"].back()["perplexity"], 4),
        format_number(report["blocks"][1]["error_in_chain"], 5)})
    EXPECT_NE(outcome.output.find(part), std::string::npos) << part << " is not in\n" << outcome.output;
  for (const std::string& part :
       {std::string("<td>scheme.bits</td><td class=n>4</td><td class=n>3</td>"),
        format_number(report["blocks"][1]["error_in_chain"], 5), std::string("<title>block 1 B: ")})
    EXPECT_NE(page.find(part), std::string::npos) << part;

  const Outcome none = run("compare " + a + " " + kExamples);
  EXPECT_EQ(none.code, 1);
  EXPECT_NE(none.output.find("error: there is no report of a run in " + kExamples), std::string::npos) << none.output;
  write("c/roundhouse/report.json", "{}");
  EXPECT_NE(run("compare " + a + " " + (work_ / "c").string()).output.find("error: this is no report of a run: "),
            std::string::npos);
}

}  // namespace
}  // namespace roundhouse
