// SPDX-License-Identifier: Apache-2.0
// The architecture that knows no family.
#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "host/checkpoint/safetensors.h"
#include "tests/cli/edit_tensors.h"
#include "tests/cli/program.h"

namespace roundhouse {
namespace {

using nlohmann::json;

class Generic : public WorkFolder {
 protected:
  Outcome round(const std::string& output, const std::string& settings) {
    return run("run " + write_recipe().string() +
               " --set tuning.iters=0 --set model=" ROUNDHOUSE_SOURCE "/tests/data/models/tiny-llama --set output=" +
               (work_ / output).string() + " " + settings);
  }
  // A run by the described family and one by names and shapes write the same tensors.
  void expect_same(const std::string& settings) {
    SCOPED_TRACE(settings);
    const Outcome described = round("described", settings + " --overwrite");
    const Outcome generic = round("generic", settings + " --overwrite --set architecture=generic");
    ASSERT_EQ(described.code, 0) << described.output;
    ASSERT_EQ(generic.code, 0) << generic.output;
    SafetensorsFolder a(work_ / "described"), b(work_ / "generic");
    ASSERT_EQ(a.names().size(), b.names().size());
    for (const std::string& name : a.names()) {
      const Tensor x = a.load(name), y = b.load(name);
      ASSERT_EQ(x.shape(), y.shape()) << name;
      EXPECT_EQ(x.dtype(), y.dtype()) << name;
      EXPECT_EQ(std::memcmp(x.data(), y.data(), x.bytes()), 0) << name;
    }
    const json theirs = json::parse(read(work_ / "described/config.json"))["quantization_config"];
    EXPECT_EQ(json::parse(read(work_ / "generic/config.json"))["quantization_config"], theirs);
    const json report = json::parse(read(work_ / "generic/roundhouse/report.json"));
    EXPECT_EQ(report["models"][1]["problems"], json::array());
    EXPECT_EQ(report["blocks"], json::array());
  }
};

TEST_F(Generic, RoundsAsTheDescribedFamilyDoes) {
  expect_same("--set 'formats=[auto_round]'");
  expect_same("--set 'formats=[auto_awq]' --set 'scheme={preset: W4A16, sym: false}'");
  expect_same("--set 'formats=[llm_compressor]' --set scheme=MXFP4");
  // q, k and v share a global scale, as gate and up do.
  expect_same("--set 'formats=[llm_compressor]' --set 'scheme={preset: NVFP4, act_bits: 16}'");
  expect_same(
      "--set 'formats=[auto_round]' --set 'layers=[{match: lm_head, bits: 8}, {match: \"re:.*v_proj\", scheme: "
      "none}]'");
}

TEST_F(Generic, SearchesWithTheImportanceOfAFile) {
  const std::string file = (work_ / "importance.gguf").string();
  const Outcome saved = round("first", "--set tuning.search=true --set imatrix.save=" + file);
  ASSERT_EQ(saved.code, 0) << saved.output;
  expect_same("--set 'formats=[auto_round]' --set tuning.search=true --set imatrix.file=" + file);
  const Outcome without = round("without", "--set tuning.search=true --set architecture=generic");
  EXPECT_EQ(without.code, 0) << without.output;
  const Outcome save =
      round("save", "--set architecture=generic --set imatrix.save=" + (work_ / "other.gguf").string());
  EXPECT_NE(save.code, 0);
  EXPECT_NE(save.output.find("imatrix.save: the architecture generic rounds weights"), std::string::npos)
      << save.output;
}

TEST_F(Generic, SaysWhatItLeavesAndCannotDo) {
  const std::string recipe = write_recipe("evaluation: {data: " + kExamples + "/texts/tinystories-heldout.jsonl}\n");
  const Outcome plan = run("plan " + recipe + " --set tuning.iters=0 --set architecture=generic");
  EXPECT_EQ(plan.code, 0);
  EXPECT_NE(plan.output.find("lm_head            1  output head"), std::string::npos) << plan.output;
  EXPECT_NE(plan.output.find("evaluation.data is not used"), std::string::npos) << plan.output;
  const Outcome tuned = run("plan " + recipe + " --set architecture=generic");
  EXPECT_NE(
      tuned.output.find("tuning.iters: the architecture generic rounds weights and computes no blocks: set it to 0"),
      std::string::npos)
      << tuned.output;
  const Outcome gguf =
      run("plan " + recipe +
          " --set tuning.iters=0 --set architecture=generic --set scheme=GGUF:Q8_0 --set 'formats=[gguf]'");
  EXPECT_NE(gguf.code, 0);
  EXPECT_NE(gguf.output.find("names.gguf"), std::string::npos) << gguf.output;
}

// The run ended where the format saw the whole plan.
TEST_F(Generic, LayersThatAFormatRefusesWithinThePlanStayAsTheyAre) {
  const std::filesystem::path model = copy_model();
  edit_tensors(model, [](auto& tensors) { tensors["adapter.proj.weight"] = Tensor(DType::kF32, {128, 128}); });
  const Outcome made =
      round("out", "--set architecture=generic --set 'formats=[auto_awq]' --set model=" + model.string());
  ASSERT_EQ(made.code, 0) << made.output;
  EXPECT_NE(made.output.find("warning: adapter.proj stays as it is: the format auto_awq: the engines that read this "
                             "format know no quantized layer outside the blocks; leave it unquantized, or use the "
                             "format auto_round\n"),
            std::string::npos)
      << made.output;
  SafetensorsFolder exported(work_ / "out");
  EXPECT_TRUE(exported.contains("adapter.proj.weight"));
  EXPECT_TRUE(exported.contains("model.layers.0.mlp.up_proj.qweight"));
}

// They were read by the family that config.json names, which asks for what is not there.
TEST_F(Generic, ExportsAreVerifiedAndConvertedByTheArchitectureOfTheirRecipe) {
  const std::filesystem::path model = copy_model();
  json config = json::parse(read(model / "config.json"));
  config["num_hidden_layers"] = 7;
  write("model/config.json", config.dump());
  const std::string out = (work_ / "out").string(), converted = (work_ / "converted").string();
  const Outcome made =
      round("out", "--set architecture=generic --set 'formats=[auto_gptq]' --set model=" + model.string());
  ASSERT_EQ(made.code, 0) << made.output;
  const Outcome repacked = run("convert " + out + " --format auto_round --output " + converted);
  EXPECT_EQ(repacked.code, 0) << repacked.output;
  for (const std::string& folder : {out, converted}) {
    const Outcome verified = run("verify " + folder);
    EXPECT_EQ(verified.code, 0) << verified.output;
  }
}

TEST_F(Generic, ExportsOfUnknownFamiliesAreVerifiedAndConverted) {
  const std::filesystem::path model = copy_model();
  json config = json::parse(read(model / "config.json"));
  config["model_type"] = "nobody";
  write("model/config.json", config.dump());
  const Outcome made = round("out", "--set 'formats=[auto_gptq]' --set model=" + model.string());
  ASSERT_EQ(made.code, 0) << made.output;
  EXPECT_EQ(run("verify " + (work_ / "out").string()).code, 0);
  const Outcome converted =
      run("convert " + (work_ / "out").string() + " --format auto_round --output " + (work_ / "converted").string());
  EXPECT_EQ(converted.code, 0) << converted.output;
  const Outcome evaluated =
      run("eval " + (work_ / "out").string() + " --data " + kExamples + "/texts/tinystories-heldout.jsonl");
  EXPECT_NE(evaluated.output.find("no architecture descriptor lists the model_type \"nobody\""), std::string::npos);
  // The source of another run, with a layer that stays packed.
  const Outcome again = round("again", "--set 'formats=[auto_gptq]' --set model=" + (work_ / "out").string() +
                                           " --set 'layers=[{match: \"re:.*down_proj\", scheme: none}]'");
  EXPECT_EQ(again.code, 0) << again.output;
  EXPECT_NE(again.output.find("packed as they are: model.layers.0.mlp.down_proj"), std::string::npos) << again.output;
}

// Of the example's layers only down_proj has columns in multiples of 96.
TEST_F(Generic, LayersThatDoNotFitStayAsTheyAre) {
  const std::string command = "plan " + write_recipe().string() +
                              " --set tuning.iters=0 --set architecture=generic --set 'formats=[auto_gptq]' --set "
                              "'scheme={preset: W4A16, group_size: 96}'";
  const Outcome plan = run(command);
  EXPECT_EQ(plan.code, 0);
  EXPECT_NE(plan.output.find("warning: model.layers.0.mlp.gate_proj and 11 others stay as they are: plugin auto_gptq"),
            std::string::npos)
      << plan.output;
  const Outcome named = run(command + " --set 'layers=[{match: \"re:.*gate_proj\"}]'");
  EXPECT_NE(named.code, 0);  // what the recipe names must fit
  EXPECT_NE(named.output.find("128 is not one of 96"), std::string::npos) << named.output;
}

TEST_F(Generic, NanInAWeightEndsTheRunWithItsName) {
  const std::filesystem::path model = copy_model();
  const std::string file = (model / "model.safetensors").string();
  SafetensorsFolder source(file);
  const Tensor weight = source.load("model.layers.1.mlp.up_proj.weight");
  std::string bytes = read(file);
  const size_t at = static_cast<size_t>(weight.as<char>() - source.load(source.names()[0]).as<char>());
  const size_t first = 8 + *reinterpret_cast<const uint64_t*>(bytes.data());
  std::memset(bytes.data() + first + at, 0xff, 4);
  write("model/model.safetensors", bytes);
  const Outcome outcome = round("out", "--set architecture=generic --set model=" + model.string());
  EXPECT_NE(outcome.code, 0);
  EXPECT_NE(outcome.output.find("model.layers.1.mlp.up_proj.weight has 1 element that is NaN"), std::string::npos)
      << outcome.output;
  EXPECT_FALSE(std::filesystem::exists(work_ / "out"));
}

}  // namespace
}  // namespace roundhouse
