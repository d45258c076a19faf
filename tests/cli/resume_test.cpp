// SPDX-License-Identifier: Apache-2.0
// A run that is broken off goes on when it is started again, and ends with the bytes of one that was not.
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <string>

#include "host/base/sha256.h"
#include "tests/cli/program.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;

constexpr int kKilled = 128 + SIGKILL;

struct ResumeCase {
  std::string name, more, set;  // lines of the recipe; overrides
};

void PrintTo(const ResumeCase& that, std::ostream* out) { *out << that.name; }

class Resume : public WorkFolder, public testing::WithParamInterface<ResumeCase> {
 protected:
  // The run of a recipe that records every block, with `before` in front of the program.
  Outcome start(const std::string& options, const std::string& before = "") const {
    return run_command("ROUNDHOUSE_JOURNAL_SECONDS=0 " + before + " " + kProgram + " run " + options);
  }
  Outcome start_and_kill(const std::string& options, int at) const {
    return start(options, "LD_PRELOAD=" CLI_FIXTURES "/libkill_at.so KILL_UNDER=" + out().string() +
                              " KILL_AT=" + std::to_string(at));
  }
  fs::path out() const { return work_ / "out"; }

  // All that a run left, but for the report, which tells times, what a killed evaluation is done by, and a note that was
  // being written when it was killed.
  static std::map<std::string, std::string> contents(const fs::path& folder) {
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
      const std::string name = entry.path().lexically_relative(folder).string();
      if (entry.is_regular_file() && !name.starts_with("roundhouse/report") && name != "roundhouse/SHA256SUMS" &&
          !name.starts_with("roundhouse/.journal") && !name.starts_with(".journal") &&
          entry.path().extension() != ".tmp")
        files[name] = read(entry.path());
    }
    return files;
  }
  // The files that are there in one of both alone, or with other bytes.
  static std::string difference(const std::map<std::string, std::string>& a,
                                const std::map<std::string, std::string>& b) {
    std::string names;
    for (const auto& [name, content] : a)
      if (!b.contains(name) || b.at(name) != content) names += name + "\n";
    for (const auto& [name, content] : b)
      if (!a.contains(name)) names += name + "\n";
    return names;
  }
  void expect_same(const std::map<std::string, std::string>& expected) const {
    EXPECT_EQ(difference(contents(out()), expected), "");
    EXPECT_FALSE(fs::exists(out() / "roundhouse/.journal"));
    EXPECT_FALSE(fs::exists(out() / ".journal"));
    for (const auto& entry : fs::directory_iterator(out() / "roundhouse"))
      EXPECT_NE(entry.path().extension(), ".tmp") << entry.path() << " is left over";
    for (const auto& entry : fs::directory_iterator(work_))
      EXPECT_FALSE(entry.path().filename().string().starts_with("out.")) << entry.path() << " is left over";
  }
};

TEST_P(Resume, KilledAgainAndAgainHasTheSameBytes) {
  const std::string recipe = write_recipe(GetParam().more).string() + GetParam().set;
  const Outcome whole = start(recipe);
  ASSERT_EQ(whole.code, 0) << whole.output;
  const auto expected = contents(out());
  const std::string older = read(out() / "roundhouse/report.json");
  // The unbroken output is the older one, which stays until the new one is there.
  int resumed = 0;
  const bool many = std::getenv("ROUNDHOUSE_KILLS");
  for (int at = 9;; at += many ? 1 : 12) {
    const Outcome outcome = start_and_kill(recipe + " --overwrite", at);
    resumed += outcome.output.find("resuming ") != std::string::npos;
    if (outcome.code == 0) break;
    ASSERT_EQ(outcome.code, kKilled) << outcome.output;
    const fs::path there = fs::exists(out()) ? out() : work_ / "out.replaced";
    ASSERT_EQ(difference(contents(there), expected), "") << "killed at " << at;
  }
  EXPECT_GT(resumed, 0);
  EXPECT_FALSE(read(out() / "roundhouse/report.json") == older) << "nothing new was made";
  expect_same(expected);
}

TEST_P(Resume, KilledAtRandomTimesHasTheSameBytes) {
  const char* const many = std::getenv("ROUNDHOUSE_KILLS");
  const int kills = many ? std::atoi(many) : 2;
  const std::string recipe = write_recipe(GetParam().more).string() + GetParam().set;
  const auto begin = std::chrono::steady_clock::now();
  const Outcome whole = start(recipe);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  ASSERT_EQ(whole.code, 0) << whole.output;
  const auto expected = contents(out());
  std::mt19937 random(1);
  for (int killed = 0; killed < kills;) {
    fs::remove_all(out());
    for (Outcome outcome{1, ""}; outcome.code != 0;) {
      const double limit = std::uniform_real_distribution<double>(0.1, 1.1 * seconds)(random);
      outcome = start(recipe, "timeout -s KILL " + std::to_string(limit));
      if (outcome.code != 0) {
        // It may have been killed when all was done, but for its own end.
        if (outcome.output.find("exists already") != std::string::npos) break;
        ASSERT_EQ(outcome.code, kKilled) << outcome.output;
        ++killed;
      }
    }
    expect_same(expected);
  }
}

// For a format that cannot go on.
const std::string kFixtures =
    " --plugin " PLUGIN_FIXTURES "/librh_fixture_good.so --plugin " PLUGIN_FIXTURES
    "/librh_fixture_format.so --set tuning.iters=0 --set 'scheme={data_type: fixture, bits: 8}'";

const std::string kEvaluation = "evaluation: {data: " + kExamples + "/texts/tinystories-heldout.jsonl, seqlen: 64}\n";

INSTANTIATE_TEST_SUITE_P(, Resume,
                         testing::Values(ResumeCase{"Tuned", "formats: [auto_round, auto_gptq]\n" + kEvaluation, ""},
                                         ResumeCase{"TunedWithASpill", "formats: [llm_compressor]\nmemory: 100KB\n",
                                                    " --set scheme=FP8_STATIC"},
                                         ResumeCase{"Searched", "formats: [gguf, fake]\n",
                                                    " --set scheme=GGUF:Q4_0 --set tuning.iters=0"},
                                         ResumeCase{"Rounded", "formats: [auto_awq, fake]\narchitecture: generic\n",
                                                    " --set tuning.iters=0 --set max_shard_size=300000"},
                                         ResumeCase{"Replayed", "formats: [fixture_format, fake]\n", kFixtures}),
                         [](const auto& info) { return info.param.name; });

class ResumeOne : public Resume {};

TEST_F(ResumeOne, OnlyTheSameRunGoesOn) {
  const fs::path model = copy_model();
  const std::string recipe = write_recipe().string() + " --set model=" + model.string();
  ASSERT_EQ(start_and_kill(recipe, 40).code, kKilled);
  ASSERT_TRUE(fs::exists(work_ / "out.partial/.journal"));
  const auto refused = [&](const std::string& options, const std::string& why) {
    const Outcome outcome = start(recipe + options);
    EXPECT_EQ(outcome.code, 1) << outcome.output;
    const std::string expected = "error: " + (work_ / "out.partial").string() +
                                 " holds a run that was broken off, but " + why +
                                 ". Run it as it was to go on, or pass --restart to begin anew.\n";
    EXPECT_NE(outcome.output.find(expected), std::string::npos) << expected << " is not in:\n" << outcome.output;
  };
  refused(" --set tuning.iters=3", "the recipe has \"tuning.iters: 3\", and had \"tuning.iters: 2\"");
  refused(" --set calibration.samples=7",
          "the recipe has \"calibration.samples: 7\", and had \"calibration.samples: 8\"");
  const auto time = fs::last_write_time(model / "model.safetensors");
  fs::last_write_time(model / "model.safetensors", time + std::chrono::seconds(1));
  refused("", (model / "model.safetensors").string() + " has changed");
  fs::last_write_time(model / "model.safetensors", time);
  // What no byte depends on.
  const Outcome outcome = start(recipe + " --threads 1 --set memory=100KB");
  EXPECT_EQ(outcome.code, 0) << outcome.output;
  EXPECT_NE(outcome.output.find("resuming "), std::string::npos) << outcome.output;
}

TEST_F(ResumeOne, TheIdentityNamesAllThatBytesDependOn) {
  const fs::path model = copy_model();
  const std::string packed = " --set model=" + model.string() + " --set output=" + (work_ / "packed").string();
  ASSERT_EQ(run("run " + write_recipe("formats: [auto_round]\n").string() + packed).code, 0);
  const std::string again = write_recipe().string() + " --set model=" + (work_ / "packed").string();
  ASSERT_EQ(start_and_kill(again, 40).code, kKilled);
  const std::string record = read(work_ / "out.partial/.journal/1.json");
  const nlohmann::json identity = nlohmann::json::parse(record.substr(record.find('\n')))["identity"];
  for (const std::string name :
       {"the recipe", "the program's version", "the program", "libtorch", "the device", "the plugin librh_dtype_int.so",
        "the plugin librh_format_auto_round.so", "the plugin librh_format_fake.so", "the importance matrix",
        "what the calibration texts say", "the architecture's description llama.yaml"})
    EXPECT_TRUE(identity.contains(name)) << name << " is not in " << identity.dump(2);
  EXPECT_TRUE(identity.contains((work_ / "packed/model.safetensors").string())) << identity.dump(2);
}

// Codes of a byte, what they are decoded to, and the other tensors, all of float32.
TEST_F(ResumeOne, ThePlanCountsWhatIsGivenAgain) {
  const std::string line = "\njournal      up to 3.02 MB on the output's disk while it runs\n";
  const auto plan = [&](const std::string& formats) {
    return run("plan " + write_recipe("formats: " + formats + "\n").string() + kFixtures).output;
  };
  EXPECT_NE(plan("[fixture_format, fake]").find(line), std::string::npos) << plan("[fixture_format, fake]");
  EXPECT_EQ(plan("[fake]").find("\njournal "), std::string::npos);
}

TEST_F(ResumeOne, RestartBeginsAnew) {
  const std::string recipe = write_recipe().string();
  ASSERT_EQ(start_and_kill(recipe, 40).code, kKilled);
  const Outcome outcome = start(recipe + " --restart --set tuning.iters=3");
  EXPECT_EQ(outcome.code, 0) << outcome.output;
  EXPECT_EQ(outcome.output.find("resuming"), std::string::npos) << outcome.output;
}

TEST_F(ResumeOne, ADamagedRecordFallsBackToTheOneBefore) {
  const std::string recipe = write_recipe("formats: [auto_round]\n").string();
  ASSERT_EQ(start(recipe).code, 0);
  const auto expected = contents(out());
  const auto broken_off = [&](const std::string& damage) {
    fs::remove_all(out());
    // In the last files, when both blocks are recorded.
    for (int at = 40; !fs::exists(work_ / "out.partial/.journal/2.json"); ++at) {
      fs::remove_all(work_ / "out.partial");
      ASSERT_EQ(start_and_kill(recipe, at).code, kKilled);
    }
    std::system(("cd " + (work_ / "out.partial/.journal").string() + " && " + damage).c_str());
  };
  broken_off("truncate -s -1 2.data");
  Outcome outcome = start(recipe);
  EXPECT_EQ(outcome.code, 0) << outcome.output;
  EXPECT_NE(outcome.output.find("2.data is damaged"), std::string::npos) << outcome.output;
  EXPECT_NE(outcome.output.find("resuming at block 2 of 2"), std::string::npos) << outcome.output;
  expect_same(expected);

  broken_off("printf x | dd of=1.data bs=1 seek=100 conv=notrunc status=none; printf x >> 2.json");
  outcome = start(recipe);
  EXPECT_EQ(outcome.code, 0) << outcome.output;
  EXPECT_NE(outcome.output.find("starting over"), std::string::npos) << outcome.output;
  expect_same(expected);
}

TEST_F(ResumeOne, AKilledEvaluationIsDoneAlone) {
  const std::string recipe = write_recipe("formats: [auto_round, fake]\n" + kEvaluation).string();
  const Outcome whole = start(recipe);
  ASSERT_EQ(whole.code, 0) << whole.output;
  const auto expected = contents(out());
  const nlohmann::json report = nlohmann::json::parse(read(out() / "roundhouse/report.json"));
  fs::remove_all(out());
  run_command("bash -c '" + kProgram + " run " + recipe + " & while kill -0 $! && [ ! -e " + out().string() +
              " ]; do sleep 0.01; done; kill -9 $!; wait $!'");
  ASSERT_TRUE(fs::exists(out() / "roundhouse/.journal"));
  const auto made = fs::last_write_time(out() / "fake/model.safetensors");
  // As after a GPU that had no room for it.
  const std::string lines = read(out() / "roundhouse/.journal/1.json");  // its digest, and the record
  nlohmann::json record = nlohmann::json::parse(lines.substr(lines.find('\n')));
  record["identity"]["the device"] = "NVIDIA H100, bfloat16";
  write("out/roundhouse/.journal/1.json", sha256(record.dump()) + "\n" + record.dump());
  const Outcome outcome = start(recipe);
  ASSERT_EQ(outcome.code, 0) << outcome.output;
  EXPECT_NE(outcome.output.find("only their evaluation is left"), std::string::npos) << outcome.output;
  EXPECT_EQ(fs::last_write_time(out() / "fake/model.safetensors"), made) << "made again";
  expect_same(expected);
  const nlohmann::json again = nlohmann::json::parse(read(out() / "roundhouse/report.json"));
  EXPECT_EQ(again["models"], report["models"]);
  EXPECT_EQ(again["layers"], report["layers"]);
  EXPECT_EQ(again["blocks"].size(), report["blocks"].size());

  const Outcome more = start(recipe);
  EXPECT_EQ(more.code, 1);
  EXPECT_NE(more.output.find("exists already"), std::string::npos) << more.output;
}

TEST_F(ResumeOne, KilledWhileItRemovedItsLastRecord) {
  const std::string recipe = write_recipe().string();
  ASSERT_EQ(start(recipe).code, 0);
  const auto expected = contents(out());
  write("out/roundhouse/.journal/1.safetensors", "");
  const Outcome outcome = start(recipe);
  EXPECT_EQ(outcome.code, 1);
  EXPECT_NE(outcome.output.find("exists already"), std::string::npos) << outcome.output;
  expect_same(expected);
}

TEST_F(ResumeOne, ASignalKeepsWhatIsRecorded) {
  const std::string recipe = write_recipe().string() + " --set tuning.iters=20";
  ASSERT_EQ(start(recipe).code, 0);
  const auto expected = contents(out());
  // Job control, for without it a shell lets its children ignore SIGINT. On a busy machine the run may end before the
  // signal comes.
  Outcome outcome{0, ""};
  for (int trial = 0; trial < 10 && outcome.code == 0; ++trial) {
    fs::remove_all(out());
    outcome = run_command("ROUNDHOUSE_JOURNAL_SECONDS=0 bash -c 'set -m; " + kProgram + " run " + recipe +
                          " & while kill -0 $! && [ ! -e " + (work_ / "out.partial/.journal/1.json").string() +
                          " ]; do sleep 0.01; done; kill -TERM $!; wait $!'");
  }
  ASSERT_EQ(outcome.code, 128 + SIGTERM) << outcome.output;
  EXPECT_NE(outcome.output.find("The work up to block 1 of 2 is kept in " + (work_ / "out.partial").string() +
                                ": the same command goes on from there."),
            std::string::npos)
      << outcome.output;
  EXPECT_NE(outcome.output.find("block 1/2  loss "), std::string::npos) << "progress where there is no terminal\n"
                                                                        << outcome.output;
  const Outcome again = start(recipe);
  EXPECT_EQ(again.code, 0) << again.output;
  EXPECT_NE(again.output.find("resuming at block 2 of 2"), std::string::npos) << again.output;
  expect_same(expected);
}

}  // namespace
}  // namespace roundhouse
