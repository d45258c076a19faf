// SPDX-License-Identifier: Apache-2.0
// What bad input gets: one clear message, an exit code that is not 0, and nothing that looks whole.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "host/base/error.h"
#include "tests/cli/edit_tensors.h"
#include "tests/cli/program.h"

namespace roundhouse {
namespace {

class BadInput : public WorkFolder {
 protected:
  void expect_refused(const std::string& arguments, const std::vector<std::string>& fragments) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.code, 1) << outcome.output;
    for (const std::string& fragment : fragments)
      EXPECT_NE(outcome.output.find(fragment), std::string::npos) << "no '" << fragment << "' in: " << outcome.output;
    EXPECT_FALSE(std::filesystem::exists(work_ / "out")) << "a refused run left an output";
    EXPECT_FALSE(std::filesystem::exists(work_ / "out.partial")) << "a refused run left its partial output";
  }
  std::string run_on(const std::filesystem::path& model) {
    return "run " + write_recipe().string() + " --set model=" + model.string();
  }
};

TEST_F(BadInput, MissingModel) { expect_refused(run_on(work_ / "nowhere"), {"nowhere"}); }

TEST_F(BadInput, MissingSafetensors) {
  const auto model = copy_model();
  std::filesystem::remove(model / "model.safetensors");
  expect_refused(run_on(model), {"safetensors", model.string()});
}

TEST_F(BadInput, TruncatedSafetensors) {
  const auto model = copy_model();
  std::filesystem::resize_file(model / "model.safetensors", 2'000'000);
  expect_refused(run_on(model), {"model.safetensors", "truncated"});
}

TEST_F(BadInput, NaNWeightsAreAllTold) {
  const auto model = copy_model();
  edit_tensors(model, [](std::map<std::string, Tensor>& tensors) {
    for (const char* layer : {"0.mlp.down_proj", "1.mlp.up_proj"})
      tensors.at(cat("model.layers.", layer, ".weight")).as<float>()[0] = std::nanf("");
  });
  const std::vector<std::string> told = {"model.layers.0.mlp.down_proj.weight has 1 element that is NaN or infinite",
                                         "model.layers.1.mlp.up_proj.weight has 1 element that is NaN or infinite"};
  expect_refused(run_on(model), told);
  expect_refused(run_on(model) + " --set tuning.iters=0", told);
  expect_refused("plan --deep " + write_recipe().string() + " --set model=" + model.string(), told);
}

// Found while the last block was written.
TEST_F(BadInput, NaNThatNoPartOfTheModelReadsIsCarried) {
  const auto model = copy_model();
  edit_tensors(model, [](std::map<std::string, Tensor>& tensors) {
    const Tensor extra(DType::kF32, {2, 2});
    std::fill_n(extra.as<float>(), 4, std::nanf(""));
    tensors.emplace("mtp.fc.weight", extra);
  });
  const Outcome outcome = run("plan --deep " + write_recipe().string() + " --set model=" + model.string());
  EXPECT_EQ(outcome.code, 0) << outcome.output;
  EXPECT_NE(
      outcome.output.find(model.string() + ": mtp.fc.weight has 4 elements that are NaN or infinite, the first at "
                                           "[0, 0]. The model does not compute with it: it is carried as it is"),
      std::string::npos)
      << outcome.output;
}

// The advice was a wider scale, which the format could not store in the end.
TEST_F(BadInput, ScalesThatAFormatCannotStoreAreToldBeforeTheWork) {
  const auto model = copy_model();
  edit_tensors(model, [](std::map<std::string, Tensor>& tensors) {
    const Tensor& weight = tensors.at("model.layers.0.mlp.down_proj.weight");
    for (int64_t i = 0; i < weight.elements(); ++i) weight.as<float>()[i] *= 1e7F;
  });
  const std::string entry = "layers:\n  - {match: 'model.layers.0.mlp.down_proj', scheme: none}\n";
  const auto with = [&](const std::string& more) {
    return write_recipe("formats: [auto_gptq]\n" + more).string() + " --set model=" + model.string();
  };
  const std::string stored = "does not fit into float16, which this format stores; leave the layer unquantized";
  expect_refused("plan --deep " + with(""),
                 {"needs a scale beyond float16: set scale_dtype to bfloat16 or float32. With "
                  "bfloat16: ",
                  stored, entry});
  expect_refused("run " + with("") + " --set 'scheme={preset: W4A16, scale_dtype: bfloat16}'", {stored, entry});
  EXPECT_EQ(run("plan --deep " + with(entry)).code, 0);
  const Outcome wider = run("plan --deep " + with("") + " --set formats=[fake]");
  EXPECT_EQ(wider.output.find("With bfloat16"), std::string::npos) << wider.output;
  EXPECT_EQ(run("run " + with("") + " --set formats=[fake] --set 'scheme={preset: W4A16, scale_dtype: bfloat16}'").code,
            0);
}

// An export learned it when it began.
TEST_F(BadInput, PlanBeginsTheExports) {
  const auto model = copy_model();
  nlohmann::json tokenizer = nlohmann::json::parse(read(model / "tokenizer.json"));
  tokenizer["pre_tokenizer"] = {
      {"type", "Sequence"},
      {"pretokenizers",
       {{{"type", "Split"}, {"pattern", {{"Regex", "[a-m]+"}}}, {"behavior", "Isolated"}, {"invert", false}},
        {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
  write("model/tokenizer.json", tokenizer.dump());
  const std::string plan = "plan " + write_recipe("formats: [gguf]\n").string() + " --set model=" + model.string() +
                           " --set scheme=GGUF:Q8_0 --set tuning.iters=0";
  expect_refused(
      plan,
      {"which of llama.cpp's pre-tokenizers this is (Prepend, Replace, [a-m]+, bytes) is not known. Name it with the "
       "format's option pre"});
  EXPECT_EQ(run(plan + " --set 'formats=[{id: gguf, pre: llama-bpe}]'").code, 0);
  expect_refused(plan + " --set 'formats=[{id: gguf, pre: lama-bpe}]'", {"lama-bpe (did you mean llama-bpe?)"});
}

TEST_F(BadInput, WhatGgufHasNoNameForIsToldTogetherWithTheWayOut) {
  const auto model = copy_model();
  edit_tensors(model, [](std::map<std::string, Tensor>& tensors) {
    for (const char* name : {"mtp.fc.weight", "mtp.norm.weight", "visual.proj.weight"})
      tensors.emplace(name, Tensor(DType::kF32, {4}));
    tensors.emplace("model.position_ids", Tensor(DType::kI64, {4}));
  });
  const std::string plan = "plan " + write_recipe("formats: [gguf]\n").string() + " --set model=" + model.string() +
                           " --set scheme=GGUF:Q8_0 --set tuning.iters=0";
  expect_refused(plan,
                 {"the format gguf cannot store mtp.fc.weight and 2 others: the architecture does not know it, and "
                  "GGUF has no name for it: the option omit_unknown: true leaves such tensors out; other formats "
                  "carry them"});
  const Outcome outcome = run(plan + " --set 'formats=[{id: gguf, omit_unknown: true}]'");
  EXPECT_EQ(outcome.code, 0) << outcome.output;
  EXPECT_NE(outcome.output.find("gguf does not store model.position_ids: a buffer, which no part of the model reads"),
            std::string::npos)
      << outcome.output;
}

TEST_F(BadInput, TokenizerOfAnotherKind) {
  const auto model = copy_model();
  write("model/tokenizer.json",
        R"({"version": "1.0", "added_tokens": [], "model": {"type": "Morphemes", "vocab": []}})");
  expect_refused(run_on(model), {"tokenizer.json", "Morphemes"});
  expect_refused(run_on(model) + " --set tuning.iters=0", {"tokenizer.json", "Morphemes"});
}

TEST_F(BadInput, NoTokenizer) {
  const auto model = copy_model();
  std::filesystem::remove(model / "tokenizer.json");
  expect_refused(run_on(model), {model.string() + ": there is no tokenizer: none of tokenizer.json, tekken.json"});
}

TEST_F(BadInput, ATokenBeyondTheEmbeddingIsToldBeforeTheWork) {
  const auto model = copy_model();
  nlohmann::json tokenizer = nlohmann::json::parse(read(model / "tokenizer.json"));
  nlohmann::json token = tokenizer["added_tokens"][0];
  token.update({{"id", 2048}, {"content", "<tool_9>"}});
  tokenizer["added_tokens"].push_back(token);
  write("model/tokenizer.json", tokenizer.dump());
  std::string texts;
  for (int i = 0; i < 16; ++i) {
    std::string text = "<tool_9> once";
    for (int word = 0; word < 100; ++word) text += " upon a time";
    texts += nlohmann::json{{"text", text}}.dump() + "\n";
  }
  const auto data = write("tools.jsonl", texts);
  const std::string message = data.string() + ": <tool_9> is 2048, the embedding has 2048 rows: resize it";
  expect_refused(run_on(model) + " --set tuning.iters=0 --set evaluation.data=" + data.string(), {message});
  expect_refused(run_on(model) + " --set calibration.data=" + data.string(), {message});
}

TEST_F(BadInput, EmptyDataset) {
  const auto data = write("empty.jsonl", "");
  expect_refused("run " + write_recipe().string() + " --set calibration.data=" + data.string(), {"empty.jsonl"});
  expect_refused("run " + write_recipe().string() + " --set tuning.iters=0 --set calibration.data=" + data.string(),
                 {"empty.jsonl"});
  expect_refused("run " + write_recipe("evaluation: {data: " + data.string() + "}\n").string(), {"empty.jsonl"});
}

TEST_F(BadInput, NoSampleIsLongEnough) {
  const auto data = write("short.jsonl", "{\"text\": \"Once upon a time.\"}\n");
  expect_refused("run " + write_recipe().string() + " --set calibration.data=" + data.string(), {"short.jsonl", "64"});
}

TEST_F(BadInput, PlanReadsEveryRecord) {
  const auto data =
      write("texts.jsonl", "{\"text\": \"Once.\"}\n{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}\n");
  const std::string with = " --set calibration.data=" + data.string(),
                    held = "evaluation: {data: " + data.string() + "}\n";
  expect_refused("plan " + write_recipe().string() + with, {"texts.jsonl:2: ", "has no chat template"});
  expect_refused("plan " + write_recipe().string() + " --set tuning.iters=0" + with, {"texts.jsonl:2: "});
  expect_refused("plan " + write_recipe(held).string(), {"texts.jsonl:2: "});
}

TEST_F(BadInput, FewerSamplesThanAskedAreUsedAndCounted) {
  std::string text;
  for (int i = 0; i < 40; ++i) text += "Once upon a time there was a dog. ";
  const auto data = write("one.txt", text + "\n" + "too short");
  const Outcome outcome = run("run " + write_recipe().string() +
                              " --set calibration.samples=100000 --set calibration.data=" + data.string());
  EXPECT_EQ(outcome.code, 0) << outcome.output;
  EXPECT_NE(outcome.output.find("100000"), std::string::npos) << outcome.output;
}

TEST_F(BadInput, UnwritableOutput) {
  write("file", "not a folder");
  expect_refused("run " + write_recipe().string() + " --set output=" + (work_ / "file/out").string(),
                 {(work_ / "file").string()});
}

TEST_F(BadInput, AnExistingOutputStays) {
  write("out/mine.txt", "precious");
  const Outcome outcome = run("run " + write_recipe().string());
  EXPECT_EQ(outcome.code, 1) << outcome.output;
  EXPECT_EQ(read(work_ / "out/mine.txt"), "precious");
}

TEST_F(BadInput, FullDisk) {
  // A limit on file size is the full disk that a test can have without being root.
  for (const char* formats : {"formats=[fake]", "formats=[auto_round,fake]"}) {
    const Outcome outcome =
        run_command("ulimit -f 400; " + kProgram + " run " + write_recipe().string() + " --set " + formats);
    EXPECT_EQ(outcome.code, 1) << outcome.output;
    EXPECT_NE(outcome.output.find("cannot write " + work_.string()), std::string::npos) << outcome.output;
    EXPECT_FALSE(std::filesystem::exists(work_ / "out")) << "a half-written checkpoint that looks whole";
    EXPECT_FALSE(std::filesystem::exists(work_ / "out.partial"));
  }
}

TEST_F(BadInput, SchemeThatTheFormatRefuses) {
  expect_refused("run " + write_recipe("formats: [auto_gptq]\n").string() +
                     " --set 'scheme={data_type: int, bits: 5, group_size: 128, sym: true}'",
                 {"auto_gptq", "5"});
}

TEST_F(BadInput, SchemeThatTheDtypeRefuses) {
  expect_refused("run " + write_recipe().string() + " --set 'scheme={data_type: int, bits: 9}'", {"bits", "9"});
}

TEST_F(BadInput, UnknownNamesAreAnsweredWithTheNearest) {
  expect_refused("run " + write_recipe().string() + " --set scheme=W4A61", {"W4A16"});
  expect_refused("run " + write_recipe().string() + " --set 'formats=[auto_gtpq]'", {"auto_gptq"});
  expect_refused("run " + write_recipe().string() + " --set tuning.itres=3", {"iters"});
  expect_refused("run " + write_recipe().string() + " --set 'formats=[{id: fake, level: 3}]'", {"fake", "level"});
  expect_refused("formts", {"formts", "formats"});
}

TEST_F(BadInput, RecipeErrorsHaveAPosition) {
  const auto recipe = write("recipe.yaml", "version: 1\nmodel: m\noutput: out\nscheme: W4A16\nformat: [fake]\n");
  expect_refused("run " + recipe.string(), {"recipe.yaml:5:1", "formats"});
}

// What only the model or a plugin can judge had none.
TEST_F(BadInput, ErrorsOfWhatARecipeNamesHaveAPosition) {
  std::filesystem::create_directory(work_ / "empty");
  expect_refused("plan " + write_recipe("architecture: lama\n").string(),
                 {"recipe.yaml:8:15: architecture: no descriptor is of the family lama (did you mean llama?)"});
  expect_refused("plan " + write_recipe("tokenizer: empty\n").string(),
                 {"recipe.yaml:8:12: tokenizer: " + (work_ / "empty").string() + " has no file of a tokenizer"});
}

// Each was overwritten, or written on.
TEST_F(BadInput, AFileOfAnotherKindIsNotReplaced) {
  const std::string model = copy_model().string(), text = write("text.txt", "Once upon a time.").string(),
                    recipe = write_recipe().string(), weights = model + "/model.safetensors";
  const auto expect_kept = [&](const std::string& command, const std::string& file, const std::string& kind) {
    const std::string before = read(file);
    expect_refused(command + " " + file, {file + " is there, and no " + kind + ": choose another file"});
    EXPECT_EQ(read(file), before) << command;
  };
  expect_kept("logits " + model + " --ids 1,2 --out", weights, "file of logits");
  expect_kept("logits " + model + " --text " + text + " --out", text, "file of logits");
  expect_kept("eval " + model + " --data " + text + " --save-logits", weights, "file of logits");
  expect_kept("qdq --dtype int --in " + weights + " --out", weights, "result of qdq");
  expect_kept("compare a b --page", recipe, "page");
  expect_kept("schema --output", recipe, "JSON Schema");
  expect_kept("plan " + recipe + " --log-file", recipe, "log");
  expect_kept("plan " + recipe + " --log-file", weights, "log");

  const std::string saved = (work_ / "saved").string(), eval = "eval " + model + " --data " + text;
  for (const std::string& command : {"schema --output " + (work_ / "schema.json").string(),
                                     eval + " --save-logits " + saved, "schema --log-file " + (work_ / "log").string()})
    for (int twice = 0; twice < 2; ++twice) EXPECT_EQ(run(command).code, 0) << command;
  expect_refused(eval + " --logits " + saved + " --save-logits " + saved, {"--save-logits would overwrite --logits, "});
}

TEST_F(BadInput, EvalOfANonModel) {
  expect_refused("eval " + work_.string() + " --data " + kExamples + "/texts/tinystories-heldout.jsonl",
                 {"config.json"});
}

}  // namespace
}  // namespace roundhouse
