// SPDX-License-Identifier: Apache-2.0
// Runs with less than a system usually gives, and on one that changes under them: the same bytes, or an error that says
// what is missing, and nothing half.
#include <cerrno>
#include <map>
#include <nlohmann/json.hpp>

#include "tests/cli/program.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;

class Limits : public WorkFolder {
 protected:
  Limits() {
    copy_model();
    std::string recipe = read(write_recipe("formats: [auto_round, auto_gptq]\nmax_shard_size: 100KB\n"));
    const std::string model = kExamples + "/tinystories-656k";
    recipe.replace(recipe.find(model), model.size(), "model");
    recipe_ = write("recipe.yaml", recipe);
  }
  // The run after shell commands that set its limits, recording every block.
  Outcome limited(const std::string& limits, const std::string& options = "") const {
    return run_command(limits + " ROUNDHOUSE_JOURNAL_SECONDS=0 " + kProgram + " run " + recipe_.string() + options);
  }
  // The exports without their notes, which tell times.
  std::map<std::string, std::string> exports() const {
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::recursive_directory_iterator(work_ / "out"))
      if (entry.is_regular_file() && entry.path().string().find("/roundhouse/") == std::string::npos)
        files[entry.path().lexically_relative(work_ / "out").string()] = read(entry.path());
    return files;
  }
  std::map<std::string, std::string> unlimited() const {
    const Outcome outcome = limited("");
    EXPECT_EQ(outcome.code, 0) << outcome.output;
    const auto files = exports();
    fs::remove_all(work_ / "out");
    return files;
  }
  void expect_same(const Outcome& outcome, const std::map<std::string, std::string>& expected) const {
    ASSERT_EQ(outcome.code, 0) << outcome.output;
    EXPECT_TRUE(exports() == expected) << outcome.output;
    fs::remove_all(work_ / "out");
  }
  void expect_no_output() const {
    EXPECT_FALSE(fs::exists(work_ / "out"));
    EXPECT_FALSE(fs::exists(work_ / "out.partial"));
  }
  // A run in which `change`, a shell command, is done when its first block is recorded; says so where it still ran then.
  Outcome changed(const std::string& change) const {
    const std::string first = (work_ / "out.partial/.journal/1.json").string();
    return run_command("ROUNDHOUSE_JOURNAL_SECONDS=0 bash -c '" + kProgram + " run " + recipe_.string() +
                       " --set tuning.iters=20 & while kill -0 $! && [ ! -e " + first + " ]; do sleep 0.01; done; " +
                       change + "; kill -0 $! && echo changed in time; wait $!'");
  }

  fs::path recipe_;
};

TEST_F(Limits, FewDescriptorsAndASmallStackAreEnough) {
  const auto expected = unlimited();
  expect_same(limited("ulimit -n 64;"), expected);
  expect_same(limited("ulimit -s 1024;"), expected);
}

TEST_F(Limits, AClockThatGoesBackChangesNothing) {
  const auto expected = unlimited();
  const Outcome outcome = limited("LD_PRELOAD=" CLOCK_LIBRARY);
  ASSERT_EQ(outcome.code, 0) << outcome.output;
  const nlohmann::json report = nlohmann::json::parse(read(work_ / "out/roundhouse/report.json"));
  for (const char* part : {"prepare", "quantize", "evaluate", "total"}) {
    EXPECT_GE(report["seconds"][part].get<double>(), 0) << part;
    EXPECT_LT(report["seconds"][part].get<double>(), 3600) << part;
  }
  expect_same(outcome, expected);
}

// Whatever it is that finds no memory. Where libtorch's libraries crash, the limit is told; libgomp ends the program with
// a word of its own where it has no room for a thread.
TEST_F(Limits, TooLittleMemoryIsAnErrorThatSaysSo) {
  int refused = 0;
  for (const int megabytes : {60, 400, 450, 470, 500, 560, 640}) {
    SCOPED_TRACE(megabytes);
    const Outcome outcome = limited("ulimit -v " + std::to_string(megabytes * 1024) + ";", " --threads 2");
    if (outcome.code == 0) {
      fs::remove_all(work_ / "out");
      continue;
    }
    ++refused;
    EXPECT_FALSE(fs::exists(work_ / "out"));
    const auto says = [&](const char* text) { return outcome.output.find(text) != std::string::npos; };
    if (says("libgomp: Thread creation failed")) continue;
    EXPECT_TRUE(says("error: ")) << outcome.output;
    EXPECT_TRUE(says("ulimit -v") || says("failed to map segment")) << outcome.output;
  }
  EXPECT_GT(refused, 0);
  EXPECT_EQ(limited("").code, 0);
}

TEST_F(Limits, ADiskThatBecomesReadOnlyIsNamed) {
  const auto expected = unlimited();
  const std::string hit = (work_ / "hit").string();
  const auto fault = [&](int from) {
    return "LD_PRELOAD=" FAULT_LIBRARY " FAULT_FOLDER=" + work_.string() + "/out FAULT_HIT=" + hit +
           " FAULT=readonly:" + std::to_string(from) + ":" + std::to_string(EROFS);
  };
  for (int from = 1; from < 200; from *= 3) {
    SCOPED_TRACE(from);
    fs::remove(hit);
    const Outcome outcome = limited(fault(from));
    ASSERT_TRUE(fs::exists(hit)) << "no such call";
    EXPECT_EQ(outcome.code, 1) << outcome.output;
    EXPECT_NE(outcome.output.find("Read-only file system"), std::string::npos) << outcome.output;
    EXPECT_NE(outcome.output.find(work_.string()), std::string::npos) << outcome.output;
    EXPECT_FALSE(fs::exists(work_ / "out"));
  }
  expect_same(limited(""), expected);
}

TEST_F(Limits, AModelThatIsReplacedIsReadToItsEnd) {
  const std::string model = (work_ / "model/model.safetensors").string();
  fs::copy(model, work_ / "other");
  const Outcome first = changed("true");
  ASSERT_EQ(first.code, 0) << first.output;
  const auto expected = exports();
  fs::remove_all(work_ / "out");
  const Outcome outcome = changed("mv " + (work_ / "other").string() + " " + model);
  EXPECT_NE(outcome.output.find("changed in time\n"), std::string::npos) << outcome.output;
  expect_same(outcome, expected);
}

TEST_F(Limits, AModelThatIsWrittenToIsAnError) {
  const std::string model = (work_ / "model/model.safetensors").string();
  const Outcome outcome = changed("printf x | dd of=" + model + " bs=1 seek=2000000 conv=notrunc status=none");
  EXPECT_EQ(outcome.code, 1);
  EXPECT_NE(outcome.output.find("error: " + model +
                                " was written to while the run read it, so that the exports would hold a part of each. "
                                "Run again when it is whole.\n"),
            std::string::npos)
      << outcome.output;
  expect_no_output();
}

}  // namespace
}  // namespace roundhouse
