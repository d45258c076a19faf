// SPDX-License-Identifier: Apache-2.0
// A run in this process: what its report says, and what it leaves on the disk.
#include "host/run/run.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "host/base/error.h"
#include "host/checkpoint/safetensors.h"
#include "host/checkpoint/writer.h"
#include "host/run/report_page.h"
#include "tests/temp_folder.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;

const fs::path kConfigs = fs::path(ROUNDHOUSE_SOURCE) / "configs";

class RunTest : public testing::Test {
 protected:
  RunRequest request(const std::string& more, bool overwrite = false) const {
    const fs::path texts = kConfigs / "examples/texts";
    const fs::path file = folder_.write(
        "recipe.yaml", "version: 1\nmodel: " + (kConfigs / "examples/tinystories-656k").string() +
                           "\noutput: out\nscheme: W4A16\ncalibration: {data: " +
                           (texts / "tinystories-calibration.jsonl").string() + ", samples: 8, seqlen: 64}\n" + more);
    return {load_recipe(file, {}, {kConfigs / "schemes"}), {kConfigs / "architectures"}, {}, overwrite};
  }
  static std::string evaluation() {
    return "evaluation: {data: " + (kConfigs / "examples/texts/tinystories-heldout.jsonl").string() + ", seqlen: 64}\n";
  }
  fs::path out() const { return folder_.path() / "out"; }

  // Once a process: a scan starts a process for each plugin.
  static Catalogue& catalogue() {
    static Catalogue found = [] {
      DiscoveryOptions options;
      options.directories = {ROUNDHOUSE_BUILD "/lib/roundhouse/plugins"};
      options.use_cache = false;
      return Catalogue::discover(options);
    }();
    return found;
  }

  TempFolder folder_;
};

TEST_F(RunTest, ReportsTheOriginalThenPlainRoundingThenTheExports) {
  const RunReport report =
      run(request("tuning: {iters: 2}\nformats: [auto_round, fake]\n" + evaluation()), catalogue());
  ASSERT_EQ(report.models.size(), 4u);
  const auto names = [&](size_t i) { return report.models[i].name + "|" + report.models[i].format; };
  EXPECT_EQ(names(0), "original|");
  EXPECT_EQ(names(1), "plain rounding|");
  EXPECT_EQ(names(2), "tuned, auto_round|auto_round");
  EXPECT_EQ(names(3), "tuned, fake|fake");
  for (const ModelRow& row : report.models) {
    ASSERT_TRUE(row.score) << row.name;
    EXPECT_GT(row.score->perplexity.tokens, 100) << row.name;
    EXPECT_LT(row.score->perplexity.value, 50) << row.name;
    EXPECT_EQ(row.problems, std::vector<std::string>{}) << row.name;
  }
  EXPECT_EQ(report.models[1].folder, fs::path()) << "made in memory alone";
  EXPECT_EQ(report.models[1].bytes, report.models[2].bytes) << "as large as the first export";
  EXPECT_NEAR(report.models[2].score->perplexity.value, report.models[3].score->perplexity.value, 1e-3)
      << "the same weights";

  ASSERT_EQ(report.blocks.size(), 2u);
  EXPECT_EQ(report.blocks[1].block, 1);
  EXPECT_GT(report.blocks[1].first_loss, 0);
  ASSERT_EQ(report.blocks[1].losses.size(), 2u);
  EXPECT_EQ(report.blocks[1].losses[0], report.blocks[1].first_loss);
  EXPECT_NEAR(*report.blocks[0].error_alone, *report.blocks[0].error_in_chain, 1e-6) << "the same inputs";
  EXPECT_LT(*report.blocks[1].error_alone, *report.blocks[1].error_in_chain);
  EXPECT_GT(*report.blocks[1].error_alone, 0.01);
  EXPECT_LT(*report.blocks[1].error_in_chain, 0.5);
  EXPECT_GT(report.seconds.prepare, 0);
  EXPECT_GT(report.seconds.quantize, report.blocks[0].seconds);
  EXPECT_NEAR(report.seconds.total, report.seconds.prepare + report.seconds.quantize + report.seconds.evaluate, 0.1);
  EXPECT_EQ(report.layers.front().scheme, "int W4 g128 sym tuned");
  EXPECT_EQ(report.layers.back().scheme, "unchanged") << "the head";
  EXPECT_FALSE(report.commands.empty());
  EXPECT_NO_THROW(require_verified(report));
  for (const char* note : {"recipe.yaml", "report.json", "report.html"}) EXPECT_TRUE(fs::exists(report.notes() / note));

  const nlohmann::json written = to_json(report);
  EXPECT_TRUE(written["models"][1]["folder"].is_null());
  EXPECT_FALSE(written["models"][1].contains("verified"));
  EXPECT_EQ(written["models"][3]["problems"], nlohmann::json::array());
  EXPECT_EQ(written["models"][2]["perplexity"], report.models[2].score->perplexity.value);
  EXPECT_NEAR(written["blocks"][1]["losses"][0], report.blocks[1].first_loss, 1e-3 * report.blocks[1].first_loss);
  EXPECT_EQ(nlohmann::json::parse(readable(written)), written);
  EXPECT_FALSE(report.models[0].score->divergence);
  EXPECT_FALSE(written["models"][0].contains("kld"));
  EXPECT_GT(report.models[2].score->divergence->mean, 0);
  EXPECT_LT(report.models[2].score->divergence->mean, report.models[2].score->divergence->p99);
  EXPECT_GT(written["models"][1]["same_top"], 0.5);
  EXPECT_FALSE(fs::exists(folder_.path() / "out.logits")) << "the original's logits are gone";
}

TEST_F(RunTest, WithoutEvaluationDataExportsAreReadBackAllTheSame) {
  const RunReport report = run(request("tuning: {iters: 0}\nformats: [fake]\n"), catalogue());
  ASSERT_EQ(report.models.size(), 2u);
  EXPECT_EQ(report.models[1].name, "rounded, fake");
  EXPECT_FALSE(report.models[1].score);
  EXPECT_NE(report.models[1].verified, "");
  EXPECT_NE(report_page(report).find("Not evaluated"), std::string::npos);
  EXPECT_FALSE(report.blocks[0].error_alone);
  EXPECT_NE(report_page(report).find("No block was tuned"), std::string::npos);
}

TEST_F(RunTest, WhatExistsIsReplacedOnlyWhenAskedFor) {
  const std::string recipe = "tuning: {iters: 0}\nformats: [fake]\n";
  run(request(recipe), catalogue());
  EXPECT_THROW(run(request(recipe), catalogue()), Error);
  EXPECT_NO_THROW(run(request(recipe, /*overwrite=*/true), catalogue()));
}

TEST_F(RunTest, WhatCanBeKnownBeforeTheWorkIsToldBeforeIt) {
  const fs::path model = folder_.path() / "model";
  fs::copy(kConfigs / "examples/tinystories-656k", model);
  SafetensorsFolder source(model);
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const std::string& name : source.names()) {
    Tensor tensor = source.load(name);
    if (name == "model.norm.weight") {
      tensor = tensor.to(DType::kF32);
      tensor.as<float>()[3] = INFINITY;
    }
    tensors.emplace_back(name, tensor);
  }
  write_safetensors_file(folder_.path() / "damaged", tensors);
  fs::rename(folder_.path() / "damaged", model / "model.safetensors");
  RunRequest damaged = request("tuning: {iters: 0}\nformats: [fake]\n");
  damaged.recipe.model = model;
  try {
    run(damaged, catalogue());
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("model.norm.weight has 1 element that is NaN or infinite, the first at [3]"),
              std::string::npos)
        << e.what();
  }
  EXPECT_FALSE(fs::exists(out()));
}

TEST(RunReport, LossesByIterationAreALineABlock) {
  RunReport report;
  report.blocks = {{0}, {1}, {2}};
  report.blocks[1].losses = {0.0123456, 0.01, 0.008};
  report.blocks[2].losses.assign(1000, 0.5);
  const std::string page = report_page(report);
  size_t lines = 0, points = 0;
  for (size_t at = 0; (at = page.find("<polyline points='", at)) != std::string::npos; ++lines) {
    const std::string line = page.substr(at, page.find('\'', at + 18) - at);
    points += static_cast<size_t>(std::count(line.begin(), line.end(), ','));
    at += line.size();
  }
  EXPECT_EQ(lines, 2u) << "the block that was not tuned has none";
  EXPECT_EQ(points, 3u + 100u) << "many iterations are drawn together";
  EXPECT_NE(page.find("iteration 1000</text>"), std::string::npos);
  EXPECT_EQ(page.find("nan"), std::string::npos);
  const std::string json = readable(to_json(report));
  EXPECT_NE(json.find("\n      \"losses\": [0.01235,0.01,0.008],\n"), std::string::npos) << json;
}

TEST(RunReport, AnExportWithProblemsIsRefusedByItsFolder) {
  RunReport report;
  report.models.resize(2);
  report.models[1].format = "x";
  report.models[1].folder = "/some/where";
  report.models[1].problems = {"a.weight is constant", "b.weight is missing"};
  try {
    require_verified(report);
    FAIL();
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(),
                 "/some/where does not read back as what the run made; do not use it:\n  a.weight is constant\n"
                 "  b.weight is missing");
  }
  EXPECT_EQ(report_page(report).find("null"), std::string::npos);
}

}  // namespace
}  // namespace roundhouse
