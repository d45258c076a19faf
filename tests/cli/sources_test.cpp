// SPDX-License-Identifier: Apache-2.0
// Quantized checkpoints as what a run starts from.
#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "host/checkpoint/safetensors.h"
#include "tests/cli/program.h"

namespace roundhouse {
namespace {

using nlohmann::json;

class Sources : public WorkFolder {
 protected:
  const std::string texts_ = kExamples + "/texts/tinystories-heldout.jsonl";

  // Quantizes the example model without tuning into work_/source.
  void make_source(const std::string& scheme, const std::string& format, const std::string& more = "") {
    const Outcome made = run("run " + write_recipe("formats: [" + format + "]\n" + more).string() +
                             " --set tuning.iters=0 --overwrite --set output=" + (work_ / "source").string() +
                             " --set scheme=" + scheme);
    ASSERT_EQ(made.code, 0) << made.output;
  }
  // What a run from work_/source says.
  std::string run_from_source(const std::string& settings) {
    const Outcome outcome =
        run("run " + write_recipe("evaluation: {data: " + texts_ + ", seqlen: 32}\n").string() +
            " --overwrite --set tuning.iters=0 --set model=" + (work_ / "source").string() + " " + settings);
    EXPECT_EQ(outcome.code, 0) << outcome.output;
    return outcome.output;
  }
  json report() const { return json::parse(read(work_ / "out/roundhouse/report.json")); }
};

void expect_same_tensor(SafetensorsFolder& a, SafetensorsFolder& b, const std::string& name) {
  const Tensor x = a.load(name), y = b.load(name);
  ASSERT_EQ(x.shape(), y.shape()) << name;
  EXPECT_EQ(x.dtype(), y.dtype()) << name;
  EXPECT_EQ(std::memcmp(x.data(), y.data(), x.bytes()), 0) << name;
}

TEST_F(Sources, EveryFormatIsTakenAsWhatItsOwnReaderSays) {
  for (const auto& [scheme, format] :
       std::initializer_list<std::pair<std::string, std::string>>{{"'{preset: W4A16, sym: false}'", "auto_round"},
                                                                  {"W4A16", "auto_awq"},
                                                                  {"FP8_STATIC", "llm_compressor"},
                                                                  {"NVFP4", "llm_compressor"},
                                                                  {"FP8_BLOCK", "fp8"}}) {
    SCOPED_TRACE(scheme + " in " + format);
    make_source(scheme, format);
    const std::string said = run_from_source("--set scheme=W8A16G32");
    EXPECT_NE(said.find("warning: the source is quantized: 14 layers are decoded to float32 and quantized again"),
              std::string::npos)
        << said;
    // What a reader gives when it decodes for itself.
    ASSERT_EQ(run("convert " + (work_ / "source").string() + " --format fake --overwrite --output " +
                  (work_ / "decoded").string())
                  .code,
              0);
    const Outcome decoded = run("eval " + (work_ / "decoded").string() + " --json --seqlen 32 --data " + texts_);
    const double expected = json::parse(decoded.output.substr(decoded.output.find('{')))["perplexity"];
    EXPECT_NEAR(report()["models"][0]["perplexity"].get<double>(), expected, 1e-3 * expected);
    EXPECT_NEAR(report()["models"][1]["perplexity"].get<double>(), expected, 0.02 * expected);
    EXPECT_EQ(report()["models"][1]["problems"], json::array());
  }
}

TEST_F(Sources, AreTuned) {
  make_source("FP8_BLOCK", "fp8");
  run_from_source("--set tuning.iters=2 --set 'formats=[auto_round]'");
  EXPECT_GT(report()["blocks"][0]["first_loss"].get<double>(), 0);
}

TEST_F(Sources, ALayerThatIsLeftAloneStaysPacked) {
  make_source("W8A16", "auto_gptq");
  const std::string said = run_from_source(
      "--set scheme=W4A16 --set 'formats=[auto_gptq]' --set 'layers=[{match: \"re:.*down_proj\", scheme: none}]'");
  EXPECT_NE(said.find("12 layers are decoded to float32 and quantized again; packed as they are: "
                      "model.layers.0.mlp.down_proj and model.layers.1.mlp.down_proj"),
            std::string::npos)
      << said;
  const Outcome plan = run("plan --json " + (work_ / "out/roundhouse/recipe.yaml").string() +
                           " --set output=" + (work_ / "other").string());
  ASSERT_EQ(plan.code, 0) << plan.output;
  const double planned = json::parse(plan.output.substr(plan.output.find('{')))["formats"][0]["bytes_estimate"];
  EXPECT_NEAR(planned, static_cast<double>(std::filesystem::file_size(work_ / "out/model.safetensors")),
              0.05 * planned);
  SafetensorsFolder source(work_ / "source"), made(work_ / "out");
  for (const char* part : {".qweight", ".scales", ".qzeros"})
    expect_same_tensor(source, made, std::string("model.layers.1.mlp.down_proj") + part);
  EXPECT_NE(made.load("model.layers.1.mlp.up_proj.qweight").shape(),
            source.load("model.layers.1.mlp.up_proj.qweight").shape());
  EXPECT_EQ(report()["models"][1]["problems"], json::array());
}

TEST_F(Sources, ALayerThatIsLeftAloneIsDecodedWhereAFormatCannotHoldIt) {
  make_source("FP8_BLOCK", "fp8");
  const std::string said = run_from_source(
      "--set scheme=W4A16 --set 'formats=[auto_gptq]' --set 'layers=[{match: \"re:.*down_proj\", scheme: none}]'");
  EXPECT_NE(said.find("written as float32: model.layers.0.mlp.down_proj and model.layers.1.mlp.down_proj"),
            std::string::npos)
      << said;
  SafetensorsFolder made(work_ / "out");
  EXPECT_EQ(made.load("model.layers.1.mlp.down_proj.weight").dtype(), DType::kF32);
  EXPECT_EQ(report()["models"][1]["problems"], json::array());
}

}  // namespace
}  // namespace roundhouse
