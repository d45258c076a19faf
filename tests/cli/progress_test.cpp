// SPDX-License-Identifier: Apache-2.0
// What a run shows of its work, to people and to programs.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/cli/program.h"

namespace roundhouse {
namespace {

using nlohmann::json;

class ProgressShown : public WorkFolder {
 protected:
  static std::vector<json> events(const std::string& lines) {
    std::vector<json> events;
    std::istringstream stream(lines);
    for (std::string line; std::getline(stream, line);) events.push_back(json::parse(line));
    return events;
  }
  // Standard output alone.
  std::vector<json> run_for_program(const std::string& arguments, int code) const {
    const Outcome outcome =
        run_command("(" + kProgram + " run --progress json " + arguments + " 2>" + stderr_file() + ")");
    EXPECT_EQ(outcome.code, code) << outcome.output << read(stderr_file());
    return events(outcome.output);
  }
  std::string stderr_file() const { return (work_ / "stderr").string(); }
};

TEST_F(ProgressShown, ToProgramsAnObjectALine) {
  const std::string recipe =
      write_recipe("evaluation: {data: " + kExamples + "/texts/tinystories-heldout.jsonl, seqlen: 64}\n").string();
  const std::vector<json> all = run_for_program(recipe + " --set tuning.iters=60", 0);
  ASSERT_GT(all.size(), 4u);
  EXPECT_EQ(all.front()["event"], "begin");
  EXPECT_EQ(all.front()["output"], (work_ / "out").string());
  EXPECT_EQ(all.back(),
            json({{"event", "end"}, {"status", "done"}, {"report", (work_ / "out/roundhouse/report.json").string()}}));
  int blocks = 0, iterations = 0, evaluated = 0;
  for (size_t i = 1; i + 1 < all.size(); ++i) {
    const json& event = all[i];
    for (const char* number : {"step", "steps", "seconds", "memory_bytes"})
      EXPECT_GT(event.at(number).get<double>(), 0) << number << " of " << event;
    EXPECT_GE(event["fraction"].get<double>(), 0) << event;
    EXPECT_LE(event["fraction"].get<double>(), 1) << event;
    EXPECT_TRUE(event.contains("seconds_left"));
    evaluated += event["stage"] == "evaluating";
    if (event["stage"] != "block") continue;
    EXPECT_EQ(event["steps"], 2);
    if (event["event"] == "step") {
      ++blocks;
      EXPECT_LE(event["best_loss"].get<double>(), event["first_loss"].get<double>());
    } else if (event["iteration"].get<int>() > 1) {
      ++iterations;
      EXPECT_EQ(event["iterations"], 60);
      EXPECT_GT(event["loss"].get<double>(), 0);
      EXPECT_GT(event["tokens_per_second"].get<double>(), 0);
    }
  }
  EXPECT_EQ(blocks, 2);
  EXPECT_GT(iterations, 0);
  EXPECT_GT(evaluated, 0);
  EXPECT_EQ(read(stderr_file()).find("block 1/2"), std::string::npos) << "on standard output alone";
}

TEST_F(ProgressShown, ToProgramsErrorsAndCtrlCAreAnEnd) {
  const std::vector<json> failed = run_for_program(write_recipe("device: abacus\n").string(), 1);
  ASSERT_FALSE(failed.empty());
  EXPECT_EQ(failed.back()["event"], "end");
  EXPECT_EQ(failed.back()["status"], "failed");
  EXPECT_NE(failed.back()["error"].get<std::string>().find("abacus"), std::string::npos) << failed.back();

  const std::string lines = (work_ / "lines").string();
  // Job control, for without it a shell lets its children ignore SIGINT.
  const Outcome outcome =
      run_command("bash -c 'set -m; " + kProgram + " run --progress json " + write_recipe().string() +
                  " --set tuning.iters=100000 > " + lines + " & until grep -q iteration " + lines +
                  "; do kill -0 $! || exit 9; sleep 0.1; done; kill -INT $!; wait $!'");
  EXPECT_EQ(outcome.code, 130) << outcome.output;
  const std::vector<json> cancelled = events(read(lines));
  EXPECT_EQ(cancelled.back()["status"], "cancelled") << cancelled.back();
  EXPECT_NE(outcome.output.find("error: cancelled"), std::string::npos) << outcome.output;

  EXPECT_NE(
      run("run --progress yaml " + write_recipe().string()).output.find("--progress takes auto or json, not \"yaml\""),
      std::string::npos);
}

TEST_F(ProgressShown, OnATerminalALineThatFitsIsRewritten) {
  const Outcome outcome = run_command("script -qec 'stty cols 40; " + kProgram + " run " + write_recipe().string() +
                                      " --set tuning.iters=80' /dev/null");
  EXPECT_EQ(outcome.code, 0) << outcome.output;
  const std::string erase = "\r\033[K";
  const size_t shown = outcome.output.find("block 1/2  iteration ");
  ASSERT_NE(shown, std::string::npos) << outcome.output;
  const size_t erased = outcome.output.find(erase, shown);
  ASSERT_NE(erased, std::string::npos) << outcome.output;
  EXPECT_LT(erased - shown, 40u) << "as wide as the terminal, it would be wrapped\n" << outcome.output;
  const size_t lasting = outcome.output.find("block 1/2  loss ");
  ASSERT_NE(lasting, std::string::npos) << outcome.output;
  EXPECT_EQ(outcome.output.substr(lasting - erase.size(), erase.size()), erase) << "in place of the line";
}

}  // namespace
}  // namespace roundhouse
