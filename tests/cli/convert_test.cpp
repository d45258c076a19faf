// SPDX-License-Identifier: Apache-2.0
// Exports repacked into other formats: the same codes and scales, and reasons for what cannot be.
#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "host/checkpoint/safetensors.h"
#include "tests/cli/program.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class Convert : public WorkFolder {
 protected:
  // A run of the recipe into work_/<name>, with plain rounding.
  fs::path export_model(const std::string& name, const std::string& scheme, const std::string& formats) {
    const Outcome outcome = run("run " + write_recipe().string() + " --set tuning.iters=0 --set 'scheme=" + scheme +
                                "' --set 'formats=[" + formats + "]' --set output=" + (work_ / name).string());
    EXPECT_EQ(outcome.code, 0) << outcome.output;
    return work_ / name;
  }
  Outcome convert(const fs::path& from, const std::string& format, const fs::path& to, const std::string& more = "") {
    return run("convert " + from.string() + " --format " + format + " --output " + to.string() + " " + more);
  }
  // Into a folder of the format's name beside the source.
  fs::path converted(const fs::path& from, const std::string& format) {
    const fs::path to = from.string() + "-" + format;
    const Outcome outcome = convert(from, format, to);
    EXPECT_EQ(outcome.code, 0) << outcome.output;
    const Outcome check = run("verify --deep --json " + to.string());
    EXPECT_EQ(check.code, 0) << check.output;
    if (check.code == 0) {
      const json result = json::parse(check.output);
      EXPECT_EQ(result["format"], format);
      EXPECT_EQ(result["tensors"], result["compared"]);
    }
    return to;
  }
  static json quantization(const fs::path& folder) {
    return json::parse(read(folder / "config.json")).at("quantization_config");
  }
};

void expect_same_tensors(const fs::path& a, const fs::path& b) {
  SafetensorsFolder first(a), second(b);
  ASSERT_EQ(first.names().size(), second.names().size());
  for (const std::string& name : first.names()) {
    ASSERT_TRUE(second.contains(name)) << name;
    const Tensor x = first.load(name), y = second.load(name);
    EXPECT_EQ(x.dtype(), y.dtype()) << name;
    ASSERT_EQ(x.shape(), y.shape()) << name;
    EXPECT_EQ(std::memcmp(x.data(), y.data(), x.bytes()), 0) << name;
  }
}

TEST_F(Convert, AnAliasOfAFormatStandsForItsOptions) {
  const fs::path source = export_model("source", "W4A16", "auto_round");
  const fs::path to = work_ / "aliased";
  const Outcome outcome = convert(source, "gptq", to);
  ASSERT_EQ(outcome.code, 0) << outcome.output;
  EXPECT_EQ(quantization(to)["quant_method"], "gptq");
  const Outcome compressed = convert(source, "compressed-tensors", work_ / "compressed");
  ASSERT_EQ(compressed.code, 0) << compressed.output;
  EXPECT_EQ(quantization(work_ / "compressed")["quant_method"], "compressed-tensors");

  // In recipes: the alias's options, and those that the recipe writes over them.
  const auto names_file = [](const fs::path& folder, const std::string& end) {
    for (const auto& entry : fs::directory_iterator(folder))
      if (entry.path().filename().string().ends_with(end)) return true;
    return false;
  };
  EXPECT_TRUE(names_file(export_model("named", "{data_type: q8_0}", "gguf:q8_0"), "-Q8_0.gguf"));
  EXPECT_TRUE(
      names_file(export_model("said", "{data_type: q8_0}", "{id: \"gguf:q4_0\", file_type: Q8_0}"), "-Q8_0.gguf"));
  const Outcome refused =
      run("plan " + write_recipe().string() + " --set 'scheme={data_type: q8_0}' --set 'formats=[\"gguf:q4_0\"]'");
  EXPECT_NE(refused.output.find("file_type Q4_0 consists of q4_0, but the recipe's scheme is q8_0"), std::string::npos)
      << refused.output;
  const Outcome unknown = run("plan " + write_recipe().string() + " --set 'formats=[\"gguf:q4_k_n\"]'");
  EXPECT_NE(unknown.output.find("did you mean gguf:q4_k_"), std::string::npos) << unknown.output;

  const json formats = json::parse(run("formats --json").output);
  for (const json& format : formats)
    if (format["id"] == "auto_awq") {
      EXPECT_EQ(format["aliases"], json::parse(R"([{"name": "awq", "options": {}}])"));
    }
}

TEST_F(Convert, AutoRoundToGptqAndBack) {
  const fs::path source = export_model("source", "W4A16", "auto_round");
  const fs::path gptq = converted(source, "auto_gptq");
  EXPECT_EQ(quantization(gptq)["quant_method"], "gptq");
  EXPECT_FALSE(quantization(gptq).contains("packing_format")) << "the source's quantization_config is left behind";
  EXPECT_TRUE(fs::exists(gptq / "tokenizer.json"));
  const fs::path back = converted(gptq, "auto_round");
  expect_same_tensors(source, back);
  EXPECT_EQ(quantization(source), quantization(back));
}

TEST_F(Convert, GptqToOtherLayoutsOfIntegersAndBack) {
  const fs::path source = export_model("source", "W4A16", "auto_gptq");
  for (const char* format : {"llm_compressor", "auto_awq"}) {
    SCOPED_TRACE(format);
    expect_same_tensors(source, converted(converted(source, format), "auto_gptq"));
  }
}

TEST_F(Convert, ToTheWeightsThatTheyMean) {
  const fs::path source = export_model("source", "W4A16", "auto_round, fake");
  const fs::path fake = converted(source / "auto_round", "fake");
  expect_same_tensors(source / "fake", fake);
  EXPECT_FALSE(json::parse(read(fake / "config.json")).contains("quantization_config"));
}

TEST_F(Convert, FloatsAndTheirInputs) {
  const std::pair<const char*, const char*> schemes[] = {
      {"MXFP4", "L.weight_scale"}, {"NVFP4", "L.input_global_scale"}, {"FP8_STATIC", "L.input_scale"}};
  for (const auto& [scheme, tensor] : schemes) {
    SCOPED_TRACE(scheme);
    const fs::path source = export_model(scheme, scheme, "auto_round");
    const fs::path compressed = converted(source, "llm_compressor");
    const json group = quantization(compressed)["config_groups"]["group_0"];
    EXPECT_TRUE(group["input_activations"].is_object());
    EXPECT_TRUE(SafetensorsFolder(compressed).contains("model.layers.0.mlp.up_proj" + std::string(tensor + 1)));
    expect_same_tensors(source, converted(compressed, "auto_round"));
  }
}

TEST_F(Convert, MixedSchemesAndHowTheyWereTuned) {
  const Outcome outcome =
      run("run " + write_recipe("formats: [auto_round]\nlayers:\n  - {match: \"re:.*o_proj\", bits: 8}\n"
                                "  - {match: model.layers.0.mlp.down_proj, scheme: none}\n")
                       .string());
  ASSERT_EQ(outcome.code, 0) << outcome.output;
  const fs::path gptq = converted(work_ / "out", "auto_gptq");
  EXPECT_EQ(quantization(gptq)["bits"], 4);
  EXPECT_EQ(quantization(gptq)["iters"], 2);
  EXPECT_EQ(quantization(gptq)["dynamic"].size(), 3u) << "two o_proj in their own way, one layer left as it is";
  const fs::path back = converted(gptq, "auto_round");
  expect_same_tensors(work_ / "out", back);
  EXPECT_EQ(quantization(back), quantization(work_ / "out"));
}

TEST_F(Convert, GgufToItself) {
  const fs::path source = export_model("source", "{data_type: q4_0}", "gguf");
  const fs::path again = converted(source, "gguf");
  const Outcome as =
      run("eval --data " + kExamples + "/texts/tinystories-heldout.jsonl --seqlen 64 --json " + source.string());
  const Outcome is =
      run("eval --data " + kExamples + "/texts/tinystories-heldout.jsonl --seqlen 64 --json " + again.string());
  ASSERT_EQ(as.code, 0) << as.output;
  ASSERT_EQ(is.code, 0) << is.output;
  EXPECT_EQ(json::parse(as.output)["perplexity"], json::parse(is.output)["perplexity"]);

  // The file alone, as people name it, has the model's tokenizer.
  fs::create_directory(work_ / "alone");
  const fs::path file = work_ / "alone/MODEL.GGUF";
  for (const auto& entry : fs::directory_iterator(source))
    if (entry.path().extension() == ".gguf") fs::copy_file(entry.path(), file);
  const std::string tokenize = "tokenize --text " + write("text.txt", "Once upon a time").string() + " --model ";
  const Outcome theirs = run(tokenize + kExamples + "/tinystories-656k"), ours = run(tokenize + file.string());
  ASSERT_EQ(theirs.code, 0) << theirs.output;
  EXPECT_EQ(ours.output, theirs.output);
}

TEST_F(Convert, AFileOfTheHubsCacheIsALinkToOneWithoutASuffix) {
  for (const auto& entry : fs::directory_iterator(export_model("gguf", "GGUF:Q8_0", "gguf")))
    if (entry.path().extension() == ".gguf") fs::rename(entry.path(), work_ / "blob");
  fs::create_directory(work_ / "snapshot");
  fs::create_symlink("../blob", work_ / "snapshot/model.gguf");
  const Outcome outcome = run("convert " + (work_ / "snapshot/model.gguf").string() + " --format fake");
  EXPECT_EQ(outcome.code, 0) << outcome.output;
  EXPECT_TRUE(fs::exists(work_ / "snapshot/model.gguf-fake/model.safetensors")) << outcome.output;
}

TEST_F(Convert, RefusesWhatTheFormatCannotHold) {
  const fs::path gguf = export_model("gguf", "{data_type: q4_0}", "gguf");
  const fs::path three = export_model("three", "{data_type: int, bits: 3, group_size: 32, sym: true}", "auto_round");
  struct Case {
    fs::path from;
    const char *to, *reason, *could;
  };
  const Case cases[] = {{gguf, "auto_round", "does not pack ggml-block/1", "Formats that can: fake, gguf"},
                        {gguf, "gguf:q8_0", "file_type Q8_0 consists of q8_0, and most weights are q4_0", ""},
                        {three, "auto_awq", "it stores 4 bits, not 3", "auto_gptq, auto_round, fake, llm_compressor"}};
  for (const Case& c : cases) {
    const Outcome outcome = convert(c.from, c.to, work_ / "refused");
    EXPECT_EQ(outcome.code, 1);
    for (const char* text : {c.reason, c.could, *c.could ? "self_attn.q_proj" : ""})
      EXPECT_NE(outcome.output.find(text), std::string::npos) << text << " is not in " << outcome.output;
    EXPECT_FALSE(fs::exists(work_ / "refused"));
  }
}

TEST_F(Convert, RefusesWhatIsNotQuantized) {
  const fs::path fake = export_model("fake", "W4A16", "fake");
  for (const fs::path& folder : {fs::path(kExamples) / "tinystories-656k", fake}) {
    const Outcome outcome = convert(folder, "auto_round", work_ / "refused");
    EXPECT_EQ(outcome.code, 1);
    EXPECT_NE(outcome.output.find("is not quantized: use `roundhouse run`"), std::string::npos) << outcome.output;
  }
}

TEST_F(Convert, OptionsAndOutputAreChecked) {
  const fs::path source = export_model("source", "W4A16", "auto_round");
  const Outcome unknown = convert(source, "llm_compressor", work_ / "to", "--set output_type=bfloat16");
  EXPECT_EQ(unknown.code, 1);
  EXPECT_NE(unknown.output.find("output_dtype"), std::string::npos) << unknown.output;
  ASSERT_EQ(convert(source, "llm_compressor", work_ / "to", "--set output_dtype=bfloat16").code, 0);
  EXPECT_EQ(SafetensorsFolder(work_ / "to").info("model.layers.0.mlp.up_proj.weight_scale").dtype, DType::kBF16);
  EXPECT_EQ(convert(source, "llm_compressor", work_ / "to").code, 1) << "it already exists";
  EXPECT_EQ(convert(source, "llm_compressor", work_ / "to", "--overwrite").code, 0);
  const Outcome itself = convert(source, "auto_gptq", source, "--overwrite");
  EXPECT_EQ(itself.code, 1);
  EXPECT_NE(itself.output.find("would overwrite"), std::string::npos) << itself.output;
  ASSERT_EQ(run("convert " + source.string() + " --format auto_gptq").code, 0);
  EXPECT_TRUE(fs::exists(work_ / "source-auto_gptq/model.safetensors"));
}

}  // namespace
}  // namespace roundhouse
