// SPDX-License-Identifier: Apache-2.0
// The scheme is what was asked, the encoding is what was made: a data type with groups and bits of its own choosing
// works with every format of its encoding.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "host/checkpoint/safetensors.h"
#include "tests/cli/program.h"

namespace roundhouse {
namespace {

using nlohmann::json;

class OwnChoice : public WorkFolder {
 protected:
  // Exports a model whose recipe asks for groups of 64, and gives the report.
  json export_model(const std::string& scheme, const std::string& formats) {
    const Outcome outcome =
        run(plugin_ + "run " + write_recipe(evaluation_).string() + " --set tuning.iters=0 --set 'scheme={" + scheme +
            ", group_size: 64}'" + " --set 'formats=[" + formats + "]'");
    EXPECT_EQ(outcome.code, 0) << outcome.output;
    return json::parse(read(work_ / "out/roundhouse/report.json"));
  }
  json quantization(const std::string& format) const {
    return json::parse(read(work_ / "out" / format / "config.json")).at("quantization_config");
  }
  // Every export reads back as what the data type's own decode gives, which is what `fake` holds.
  void expect_read_back(const json& report) const {
    for (const json& model : report["models"]) {
      if (model["name"] == "original") continue;
      SCOPED_TRACE(model["name"]);
      EXPECT_EQ(model["problems"], json::array());
      EXPECT_NE(model["verified"].get<std::string>().find("20 compared"), std::string::npos) << model["verified"];
      EXPECT_NEAR(model["perplexity"].get<double>(), report["models"].back()["perplexity"].get<double>(), 0.01);
    }
  }

  const std::string evaluation_ = "evaluation: {data: " + kExamples + "/texts/tinystories-heldout.jsonl, seqlen: 32}\n";
  const std::string plugin_ = "--plugin " CLI_FIXTURES "/librh_fixture_own_choice.so ";
};

TEST_F(OwnChoice, FourBitsWithZeroPointsWhereEightWithoutWereAsked) {
  expect_read_back(
      export_model("data_type: own4, bits: 8, sym: true", "auto_round, auto_gptq, auto_awq, llm_compressor, fake"));
  for (const char* format : {"auto_round", "auto_gptq", "auto_awq"}) {
    SCOPED_TRACE(format);
    EXPECT_EQ(quantization(format)["bits"], 4);
    EXPECT_EQ(quantization(format)["group_size"], 32);
  }
  EXPECT_EQ(quantization("auto_round")["sym"], false);
  EXPECT_EQ(quantization("auto_awq")["zero_point"], true);
  const json group = quantization("llm_compressor")["config_groups"]["group_0"]["weights"];
  EXPECT_EQ(group["num_bits"], 4);
  EXPECT_EQ(group["group_size"], 32);
  EXPECT_EQ(group["symmetric"], false);
}

TEST_F(OwnChoice, EightBitsWithoutZeroPointsWhereFourWithWereAsked) {
  expect_read_back(export_model("data_type: own8, bits: 4, sym: false", "auto_round, gptq, llm_compressor, fake"));
  for (const char* format : {"auto_round", "gptq"}) {
    SCOPED_TRACE(format);
    EXPECT_EQ(quantization(format)["bits"], 8);
    EXPECT_EQ(quantization(format)["group_size"], 32);
    EXPECT_EQ(quantization(format)["sym"], true);
  }
  const json group = quantization("llm_compressor")["config_groups"]["group_0"]["weights"];
  EXPECT_EQ(group["num_bits"], 8);
  EXPECT_EQ(group["symmetric"], true);
}

TEST_F(OwnChoice, AFormatRefusesWhatWasMadeAndNotWhatWasAsked) {
  const std::string recipe = write_recipe().string() + " --set tuning.iters=0 --set 'formats=[awq]'";
  const Outcome fits = run(plugin_ + "plan " + recipe + " --set 'scheme={data_type: own4, bits: 8, group_size: 64}'");
  EXPECT_EQ(fits.code, 0) << fits.output;
  const Outcome refused =
      run(plugin_ + "plan " + recipe + " --set 'scheme={data_type: own8, bits: 4, group_size: 64}'");
  EXPECT_EQ(refused.code, 1);
  EXPECT_NE(refused.output.find("it stores 4 bits, not 8"), std::string::npos) << refused.output;
}

}  // namespace
}  // namespace roundhouse
