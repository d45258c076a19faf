// What bad input gets: one clear message, an exit code that is not 0, and nothing that looks whole.
#include <gtest/gtest.h>

#include <cmath>

#include "host/checkpoint/safetensors.h"
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

TEST_F(BadInput, NaNWeightNamesTheLayer) {
  const auto model = copy_model();
  uint64_t offset = 0;
  {
    SafetensorsFolder source(model);
    const Tensor weight = source.load("model.layers.1.mlp.up_proj.weight");
    const Tensor first = source.load(source.names().front());
    offset = static_cast<uint64_t>(static_cast<const char*>(weight.data()) - static_cast<const char*>(first.data()));
    uint64_t length = 0;
    std::ifstream(model / "model.safetensors", std::ios::binary).read(reinterpret_cast<char*>(&length), 8);
    offset += 8 + length;
  }
  std::fstream file(model / "model.safetensors", std::ios::in | std::ios::out | std::ios::binary);
  const float nan = std::nanf("");
  file.seekp(static_cast<std::streamoff>(offset));
  file.write(reinterpret_cast<const char*>(&nan), 4);
  file.close();
  expect_refused(run_on(model), {"model.layers.1.mlp.up_proj"});
  expect_refused(run_on(model) + " --set tuning.iters=0", {"model.layers.1.mlp.up_proj"});
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

TEST_F(BadInput, EvalOfANonModel) {
  expect_refused("eval " + work_.string() + " --data " + kExamples + "/texts/tinystories-heldout.jsonl",
                 {"config.json"});
}

}  // namespace
}  // namespace roundhouse
