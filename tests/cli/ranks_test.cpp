// SPDX-License-Identifier: Apache-2.0
// A run of several processes has the bytes of one.
#include <gtest/gtest.h>

#include <map>

#include "host/base/error.h"
#include "tests/cli/program.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;

struct RankCase {
  std::string name, recipe, set;
  std::vector<int> ranks;
};
void PrintTo(const RankCase& that, std::ostream* out) { *out << that.name; }

// With Open MPI's settings: more processes than processors, none bound to one, root may run it; shared memory as in
// containers, which have little of it and may not read each other's.
const std::string kLauncher =
    "OMPI_MCA_btl_vader_backing_directory=/tmp OMPI_MCA_btl_vader_single_copy_mechanism=none "
    "OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none OMPI_ALLOW_RUN_AS_ROOT=1 "
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 " CLI_MPIEXEC;

class SeveralRanks : public WorkFolder, public testing::WithParamInterface<RankCase> {
 protected:
  void SetUp() override {
    if (std::string(CLI_MPIEXEC).empty()) GTEST_SKIP() << "CMake has found no MPI";
    static const Outcome launcher = run_command(kLauncher + " -n 2 true");  // a container may forbid what it needs
    if (launcher.code != 0) GTEST_SKIP() << "the launcher of MPI does not work here: " << launcher.output;
  }
  // Four units of 1,024 tokens, which are one batch.
  std::string recipe(const std::string& more) const {
    const std::string texts = kExamples + "/texts/tinystories-calibration.jsonl";
    return write("recipe.yaml", "version: 1\nmodel: " + kExamples + "/tinystories-656k\noutput: out\n" +
                                    "calibration: {data: " + texts +
                                    ", samples: 16, seqlen: 256, batch_size: 16, concatenate: true}\n" + more)
        .string();
  }
  // `before`: variables for the program.
  static Outcome start(int ranks, const std::string& arguments, const std::string& before = "") {
    return run_command("env " + before + " " + kLauncher + " -n " + std::to_string(ranks) + " " + kProgram + " run " +
                       arguments);
  }
  fs::path out() const { return work_ / "out"; }
  // All that a run left, but for times.
  std::map<std::string, std::string> contents() const {
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::recursive_directory_iterator(out())) {
      const std::string name = entry.path().lexically_relative(out()).string();
      if (entry.is_regular_file() && !name.starts_with("roundhouse/report") && name != "roundhouse/SHA256SUMS")
        files[name] = read(entry.path());
    }
    return files;
  }
  void expect_same(const std::map<std::string, std::string>& expected) const {
    const auto actual = contents();
    EXPECT_EQ(actual.size(), expected.size());
    for (const auto& [name, content] : expected)
      EXPECT_TRUE(actual.contains(name) && actual.at(name) == content) << name << " differs";
  }
};

TEST_P(SeveralRanks, HaveTheBytesOfOne) {
  const std::string command = recipe(GetParam().recipe) + GetParam().set;
  const Outcome alone = run("run " + command);
  ASSERT_EQ(alone.code, 0) << alone.output;
  const auto expected = contents();
  for (const int ranks : GetParam().ranks) {
    SCOPED_TRACE(ranks);
    fs::remove_all(out());
    const Outcome outcome = start(ranks, command);
    ASSERT_EQ(outcome.code, 0) << outcome.output;
    EXPECT_NE(outcome.output.find(cat(ranks, " processes (")), std::string::npos) << outcome.output;
    expect_same(expected);
  }
}

const std::string kTwoBits = "scheme: W2A16G32\ntuning: {iters: 3, algorithm: signround2}\n";

INSTANTIATE_TEST_SUITE_P(
    , SeveralRanks,
    testing::Values(
        RankCase{"Tuned", kTwoBits + "formats: [auto_round, fake]\n", "", {2, 4}},
        RankCase{"WithRangesAndASpill",
                 "scheme: FP8_STATIC\ntuning: {iters: 2}\nmemory: 100KB\nformats: [llm_compressor]\n",
                 "",
                 {4}},
        RankCase{"Searched",
                 "scheme: GGUF:Q4_0\ntuning: {iters: 0, search: true}\nimatrix: {save: importance.gguf}\n"
                 "formats: [gguf]\n",
                 " --overwrite",
                 {2, 3}},  // the third has no samples
        RankCase{"Mixed",
                 "scheme: {mix: [W2A16G32, W4A16G32], target: 3 bits}\ntuning: {iters: 2}\nformats: [auto_round]\n",
                 "",
                 {2}},
        RankCase{"Rounded",
                 "scheme: W4A16\ntuning: {iters: 0}\narchitecture: generic\nformats: [auto_awq, fake]\n",
                 " --set max_shard_size=300000",
                 {3}}),
    [](const auto& info) { return info.param.name; });

class Ranks : public SeveralRanks {};

TEST_F(Ranks, OfARunThatWasBrokenOffAnotherNumberGoesOn) {
  const std::string command = recipe(kTwoBits + "formats: [auto_round]\n");
  ASSERT_EQ(run("run " + command).code, 0);
  const auto expected = contents();
  for (const auto& [before, after] : {std::pair{2, 4}, {4, 1}}) {
    fs::remove_all(out());
    const Outcome killed =
        start(before, command,
              "ROUNDHOUSE_JOURNAL_SECONDS=0 LD_PRELOAD=" CLI_FIXTURES "/libkill_at.so KILL_AT=40 KILL_UNDER=" +
                  out().string());
    EXPECT_NE(killed.code, 0);
    ASSERT_TRUE(fs::exists(work_ / "out.partial/.journal/1.json")) << killed.output;
    const Outcome outcome = start(after, command);
    EXPECT_EQ(outcome.code, 0) << outcome.output;
    EXPECT_NE(outcome.output.find("resuming "), std::string::npos) << outcome.output;
    expect_same(expected);
  }
}

TEST_F(Ranks, OneThatDiesEndsAllAndWhatIsDoneIsKept) {
  const std::string command = recipe(kTwoBits + "formats: [fake]\n") + " --set tuning.iters=60";
  const std::string process = kProgram + " run " + (work_ / "recipe.yaml").string();
  const fs::path script =
      write("kill.sh", "(for i in $(seq 3000); do [ -e " + (work_ / "out.partial/.journal/1.json").string() +
                           " ] && break; sleep 0.1; done; pkill -9 -n -f '^" + process +
                           "') > /dev/null 2>&1 &\nexec env \"$@\"\n");
  const Outcome outcome = start(2, command, "ROUNDHOUSE_JOURNAL_SECONDS=0 bash " + script.string());
  EXPECT_NE(outcome.code, 0);
  EXPECT_NE(outcome.output.find("(Killed)"), std::string::npos) << outcome.output;
  EXPECT_FALSE(fs::exists(out()));
  EXPECT_TRUE(fs::exists(work_ / "out.partial/.journal/1.json")) << outcome.output;
}

TEST_F(Ranks, WithNothingToDoAreRefused) {
  const Outcome outcome =
      start(3, recipe("scheme: W4A16\ntuning: {iters: 2}\nformats: [fake]\n") + " --set calibration.batch_size=8");
  EXPECT_EQ(outcome.code, 1);
  const std::string error =
      "error: 3 processes were started, but the 8 samples of an iteration, divided in units of at least 1,024 tokens, "
      "give work to 2 of them. Start so many, or raise calibration.batch_size or tuning.gradient_accumulation.\n";
  const size_t at = outcome.output.find(error);
  EXPECT_NE(at, std::string::npos) << outcome.output;
  EXPECT_EQ(outcome.output.find(error, at + 1), std::string::npos) << "said twice:\n" << outcome.output;
  EXPECT_FALSE(fs::exists(work_ / "out.partial"));
}

TEST_F(Ranks, ThatWouldDoSomethingElseAreNamed) {
  const std::string command = recipe("scheme: W4A16\nformats: [fake]\n"),
                    other = " : -n 1 " + kProgram + " run " + command;
  for (const auto& [set, expected] :
       {std::pair{std::string(" --set tuning.iters=3"),
                  std::string("error: rank 1 would not do the same as the first: the recipe has \"tuning.iters: 3\"")},
        {" --set model=" + work_.string(), "error: rank 1: " + work_.string()}}) {
    const Outcome outcome = start(1, command + other + set);
    EXPECT_EQ(outcome.code, 1);
    EXPECT_NE(outcome.output.find(expected), std::string::npos) << outcome.output;
    EXPECT_EQ(outcome.output.find("cancelled"), std::string::npos) << outcome.output;
    EXPECT_FALSE(fs::exists(out()));
  }
}

TEST_F(Ranks, GoOnWithoutARecordThatCannotBeWritten) {
  const std::string command = recipe(kTwoBits + "formats: [fake]\n");
  ASSERT_EQ(run("run " + command).code, 0);
  const auto expected = contents();
  for (const int write : {2, 3, 4}) {
    SCOPED_TRACE(write);
    fs::remove_all(out());
    const Outcome outcome = start(2, command,
                                  cat("ROUNDHOUSE_JOURNAL_SECONDS=0 LD_PRELOAD=" FAULT_LIBRARY " FAULT=write:", write,
                                      ":28 FAULT_FOLDER=", (work_ / "out.partial/.journal").string()));
    EXPECT_EQ(outcome.code, 0) << outcome.output;
    EXPECT_NE(outcome.output.find("what is done is not recorded for a later run: "), std::string::npos)
        << outcome.output;
    expect_same(expected);
  }
}

// The launcher of another MPI.
TEST_F(Ranks, ThatDoNotFindEachOtherAreRefused) {
  const Outcome outcome =
      run_command("PMI_RANK=0 PMI_SIZE=2 " + kProgram + " run " + recipe("scheme: W4A16\nformats: [fake]\n"));
  EXPECT_EQ(outcome.code, 1);
  EXPECT_NE(outcome.output.find("error: a launcher has started 2 processes of this run, but "), std::string::npos)
      << outcome.output;
  EXPECT_NE(outcome.output.find(", which this build uses, has found this one alone: take the launcher of that MPI\n"),
            std::string::npos)
      << outcome.output;
}

}  // namespace
}  // namespace roundhouse
