// SPDX-License-Identifier: Apache-2.0
// Runs with quantized activations and importance matrices, through fixture plugins.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "host/checkpoint/safetensors.h"
#include "tests/cli/program.h"

namespace roundhouse {
namespace {

class Inputs : public WorkFolder {
 protected:
  const std::string evaluation_ = "evaluation: {data: " + kExamples + "/texts/tinystories-heldout.jsonl, seqlen: 32}\n";
  const std::string plugins_ = "--plugin-path " TUNING_FIXTURES " --plugin " PLUGIN_FIXTURES "/librh_fixture_good.so" +
                               std::string(" --plugin " PLUGIN_FIXTURES "/librh_fixture_format.so ");

  Outcome run_with_fixtures(const std::string& arguments) const { return run(plugins_ + arguments); }
  std::string set_scheme(const std::string& scheme) const { return " --set 'scheme={" + scheme + "}'"; }
  double perplexity(size_t row) const {
    return nlohmann::json::parse(read(work_ / "out/roundhouse/report.json"))["models"][row]["perplexity"];
  }
};

TEST_F(Inputs, PerplexityIsThatOfQuantizedActivations) {
  const std::string recipe = write_recipe(evaluation_).string() + " --set tuning.iters=0 --overwrite";
  const std::string weights = "data_type: int, bits: 8, group_size: 32";
  ASSERT_EQ(run_with_fixtures("run " + recipe + set_scheme(weights)).code, 0);
  const double original = perplexity(0), without = perplexity(1);
  const Outcome outcome = run_with_fixtures(
      "run " + recipe + set_scheme(weights + ", act_data_type: grid, act_bits: 3, act_group_size: -1"));
  ASSERT_EQ(outcome.code, 0) << outcome.output;
  EXPECT_EQ(perplexity(0), original) << "the original's activations stay as they are";
  EXPECT_GT(perplexity(1), 1.05 * without);
  EXPECT_NE(outcome.output.find("the format fake keeps weights alone"), std::string::npos) << outcome.output;
}

TEST_F(Inputs, AnExportIsEvaluatedWithTheActivationsThatItAsksFor) {
  const std::string evaluate =
      "eval " + work_.string() + "/out --json --seqlen 32 --data " + kExamples + "/texts/tinystories-heldout.jsonl";
  // A range for each token; calibrated ranges; a calibrated one over ranges of groups; exponents rounded up; scales of 1.
  for (const auto& [scheme, format] : std::initializer_list<std::pair<std::string, std::string>>{
           {"INT8", "llm_compressor"},
           {"FP8_STATIC", "llm_compressor"},
           {"MXFP4_RCEIL", "auto_round"},
           {"'{data_type: fp8_unit_scale, act_data_type: fp8_unit_scale, act_bits: 8}'", "llm_compressor"},
           {"NVFP4", "llm_compressor"}}) {
    SCOPED_TRACE(scheme);
    const Outcome outcome = run("run " + write_recipe(evaluation_ + "formats: [" + format + "]\n").string() +
                                " --set tuning.iters=0 --overwrite --set scheme=" + scheme);
    ASSERT_EQ(outcome.code, 0) << outcome.output;
    const nlohmann::json found = nlohmann::json::parse(run(evaluate).output);
    EXPECT_EQ(found["activations"], "quantized");
    EXPECT_EQ(found["perplexity"], perplexity(1));
  }
  const Outcome outcome = run_command("XDG_CACHE_HOME=" + work_.string() + " XDG_DATA_HOME=" + work_.string() +
                                      " ROUNDHOUSE_PLUGIN_PATH=" + work_.string() + " " + kProgram + " --plugin " +
                                      kPlugins + "/librh_format_llm_compressor.so " + evaluate);
  EXPECT_NE(outcome.output.find("no data type quantizes inputs as nvfp/1"), std::string::npos) << outcome.output;
  EXPECT_NE(outcome.output.find("\"activations\": \"unquantized\""), std::string::npos) << outcome.output;
}

TEST_F(Inputs, AFormatWarnsOfWhatItCannotSayOfInputs) {
  const Outcome outcome = run("plan " + write_recipe("formats: [llm_compressor, auto_round]\n").string() +
                              " --set tuning.iters=0 --set scheme=MXFP4_RCEIL");
  ASSERT_EQ(outcome.code, 0) << outcome.output;
  EXPECT_NE(outcome.output.find("warning: the format llm_compressor: compressed-tensors cannot say the exponent rceil"),
            std::string::npos)
      << outcome.output;
  EXPECT_EQ(outcome.output.find("the format auto_round:"), std::string::npos) << outcome.output;
}

TEST_F(Inputs, FormatsGetTheCalibratedRange) {
  const Outcome outcome = run_with_fixtures(
      "run " + write_recipe("formats: [fixture_format]\n").string() + " --set tuning.iters=0" +
      set_scheme(
          "data_type: fixture, bits: 8, act_data_type: grid, act_bits: 8, act_group_size: 0, act_dynamic: false"));
  ASSERT_EQ(outcome.code, 0) << outcome.output;
  SafetensorsFolder exported(work_ / "out");
  for (const char* layer : {"self_attn.q_proj", "mlp.down_proj"}) {
    const Tensor scale = exported.load(std::string("model.layers.1.") + layer + ".input_scale");
    ASSERT_EQ(scale.shape(), std::vector<int64_t>{1});
    EXPECT_GT(scale.as<float>()[0], 0);
  }
}

TEST_F(Inputs, AReadImportanceMatrixGivesTheBitsOfTheCollectedOne) {
  const std::string recipe = write_recipe("imatrix: {save: imatrix.gguf}\n").string() +
                             set_scheme("data_type: weighted") + " --set tuning='{iters: 0, search: true}'";
  const Outcome first = run_with_fixtures("run " + recipe);
  ASSERT_EQ(first.code, 0) << first.output;
  const Outcome again = run_with_fixtures("run " + recipe + " --set output=" + (work_ / "again").string());
  EXPECT_NE(again.output.find("imatrix.gguf already exists"), std::string::npos) << again.output;
  const Outcome read_back = run_with_fixtures("run " + recipe + " --set output=" + (work_ / "read").string() +
                                              " --set imatrix='{file: imatrix.gguf}'" + " --set calibration={}");
  EXPECT_NE(read_back.code, 0) << "paths on the command line start from the current folder";
  const Outcome absolute =
      run_with_fixtures("run " + recipe + " --set output=" + (work_ / "read").string() +
                        " --set imatrix='{file: " + (work_ / "imatrix.gguf").string() + "}' --set calibration={}");
  ASSERT_EQ(absolute.code, 0) << absolute.output;
  EXPECT_TRUE(read(work_ / "out/model.safetensors") == read(work_ / "read/model.safetensors"));
}

}  // namespace
}  // namespace roundhouse
