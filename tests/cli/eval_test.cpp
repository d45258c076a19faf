// SPDX-License-Identifier: Apache-2.0
// `roundhouse eval`: what it says of an export beside the original.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "host/checkpoint/safetensors.h"
#include "tests/cli/program.h"

namespace roundhouse {
namespace {

class Eval : public WorkFolder {
 protected:
  // [positions][vocab], log p of the text's tokens after the first.
  std::vector<std::vector<double>> log_probs(const std::string& model) {
    const std::string out = (work_ / "out.safetensors").string();
    const Outcome outcome = run("logits " + model + " --text " + text_ + " --out " + out);
    EXPECT_EQ(outcome.code, 0) << outcome.output;
    const Tensor logits = SafetensorsFolder(out).load("logits");
    std::vector<std::vector<double>> rows;
    for (int64_t r = 0; r + 1 < logits.dim(0); ++r) {
      const float* row = logits.as<float>() + r * logits.dim(1);
      double sum = 0;
      for (int64_t i = 0; i < logits.dim(1); ++i) sum += std::exp(double{row[i]});
      auto& log_p = rows.emplace_back(row, row + logits.dim(1));
      for (double& value : log_p) value -= std::log(sum);
    }
    return rows;
  }
  nlohmann::json eval(const std::string& arguments) {
    const Outcome outcome = run("eval " + arguments + " --json --data " + text_);
    EXPECT_EQ(outcome.code, 0) << outcome.output;
    return nlohmann::json::parse(outcome.output.substr(outcome.output.find('{')));
  }

  const std::string original_ = kExamples + "/tinystories-656k";
  const std::string text_ =
      write("text.txt", "Once upon a time there was a small dog who liked to play in the park.").string();
};

TEST_F(Eval, SavedLogitsGiveTheDivergenceOfAnExport) {
  const Outcome made = run("run " + write_recipe("formats: [auto_round]\n").string() + " --set scheme=W2A16G32");
  ASSERT_EQ(made.code, 0) << made.output;
  const std::string exported = (work_ / "out").string(), saved = (work_ / "saved").string();
  const auto original = log_probs(original_), model = log_probs(exported);
  double mean = 0, same = 0;
  for (size_t r = 0; r < original.size(); ++r) {
    for (size_t i = 0; i < original[r].size(); ++i)
      mean += std::exp(original[r][i]) * (original[r][i] - model[r][i]) / static_cast<double>(original.size());
    const auto top = [&](const auto& rows) {
      return std::max_element(rows[r].begin(), rows[r].end()) - rows[r].begin();
    };
    same += (top(original) == top(model)) / static_cast<double>(original.size());
  }
  const nlohmann::json first = eval(original_ + " --save-logits " + saved);
  EXPECT_FALSE(first.contains("kld"));
  const nlohmann::json second = eval(exported + " --logits " + saved);
  EXPECT_GT(mean, 0.01);
  EXPECT_NEAR(second["kld"]["mean"].get<double>(), mean, 1e-3 * mean);
  EXPECT_NEAR(second["same_top"].get<double>(), same, 1e-9);
  EXPECT_EQ(second["perplexity"], eval(exported)["perplexity"]);
  const Outcome table = run("eval " + exported + " --logits " + saved + " --data " + text_);
  EXPECT_NE(table.output.find("99.9 %"), std::string::npos) << table.output;

  const Outcome other = run("eval " + exported + " --seqlen 5 --logits " + saved + " --data " + text_);
  EXPECT_EQ(other.code, 1);
  EXPECT_NE(other.output.find("is of other texts. Write it with"), std::string::npos) << other.output;
  const Outcome none =
      run("eval " + exported + " --logits " + (work_ / "out/model.safetensors").string() + " --data " + text_);
  EXPECT_NE(none.output.find("so it is no file of logits"), std::string::npos) << none.output;
}

TEST_F(Eval, AFileIsWrittenWhereItsNameLeads) {
  const std::string out = (work_ / "named").string(), text = " --text " + text_ + " --seqlen 8",
                    logits = "logits " + kExamples + "/tinystories-656k" + text + " --out " + out;
  ASSERT_EQ(run_command("mkfifo " + out).code, 0);
  const Outcome refused = run(logits);
  EXPECT_EQ(refused.code, 1);
  EXPECT_NE(refused.output.find("cannot write " + out + ": it is no regular file"), std::string::npos)
      << refused.output;
  EXPECT_EQ(run("schema --output " + out).output,
            "error: cannot write " + out + ": it is no regular file. Name another one\n");
  EXPECT_TRUE(std::filesystem::is_fifo(out));
  std::filesystem::remove(out);
  std::filesystem::create_symlink(write("real", ""), out);
  EXPECT_EQ(run(logits).code, 0);
  EXPECT_TRUE(std::filesystem::is_symlink(out));
  EXPECT_TRUE(SafetensorsFolder(work_ / "real").contains("logits"));
}

}  // namespace
}  // namespace roundhouse
