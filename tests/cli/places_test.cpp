// SPDX-License-Identifier: Apache-2.0
// Where models, descriptors and presets are, and inputs that others of the ecosystem take.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "host/checkpoint/safetensors.h"
#include "host/checkpoint/writer.h"
#include "tests/cli/edit_tensors.h"
#include "tests/cli/program.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class Places : public WorkFolder {
 protected:
  // As a user with nothing but this home folder.
  Outcome run(const std::string& arguments) const {
    return run_command("env -u HF_HOME -u HF_HUB_CACHE -u XDG_CACHE_HOME -u XDG_CONFIG_HOME HOME=" + home_.string() +
                       " " + kProgram + " " + arguments);
  }
  std::string quick(const std::string& more = "") const {
    return "run " + write_recipe().string() + " --overwrite --set tuning.iters=0 " + more;
  }
  // The example model in the hub's cache, as its tools lay it out.
  fs::path lay_out_cache() const {
    const fs::path repository = home_ / ".cache/huggingface/hub/models--someone--tiny";
    const fs::path snapshot = repository / "snapshots/0123abcd";
    fs::create_directories(snapshot);
    fs::create_directories(repository / "blobs");
    int blob = 0;
    for (const auto& entry : fs::directory_iterator(kExamples + "/tinystories-656k")) {
      const std::string name = std::to_string(blob++);
      fs::copy_file(entry.path(), repository / "blobs" / name);
      fs::create_symlink("../../blobs/" + name, snapshot / entry.path().filename());
    }
    write(fs::relative(repository / "refs/main", work_), "0123abcd");
    return repository;
  }
  void edit_config(const fs::path& model, const std::function<void(json&)>& edit) const {
    json config = json::parse(read(model / "config.json"));
    edit(config);
    write(fs::relative(model / "config.json", work_), config.dump());
  }

  const fs::path home_ = work_ / "home";
};

TEST_F(Places, EveryCommandTakesAHubId) {
  const fs::path repository = lay_out_cache(), text = write("text.txt", "Once upon a time there was a cat.");
  const std::string data = " --data " + text.string(), recipe = write_recipe().string();
  for (const std::string& model :
       {std::string("someone/tiny"), std::string("someone/tiny@0123abcd"), repository.string(),
        std::string("'~/.cache/huggingface/hub/models--someone--tiny'")}) {
    SCOPED_TRACE(model);
    const Outcome tokens = run("tokenize --model " + model + " --text " + text.string());
    EXPECT_EQ(tokens.code, 0) << tokens.output;
    const Outcome scored = run("eval " + model + data);
    EXPECT_EQ(scored.code, 0) << scored.output;
    const Outcome computed = run("logits " + model + " --ids 1,2 --out " + (work_ / "logits").string());
    EXPECT_EQ(computed.code, 0) << computed.output;
    const Outcome planned = run("plan " + recipe + " --set model=" + model);
    EXPECT_EQ(planned.code, 0) << planned.output;
    EXPECT_NE(planned.output.find((repository / "snapshots/0123abcd").string()), std::string::npos) << planned.output;
    const Outcome converted = run("convert " + model + " --format fake");
    EXPECT_NE(converted.output.find("is not quantized: use `roundhouse run`"), std::string::npos) << converted.output;
  }
  const Outcome outcome = run(quick("--set model=someone/tiny"));
  ASSERT_EQ(outcome.code, 0) << outcome.output;
  EXPECT_EQ(run("verify " + (work_ / "out").string()).code, 0);
}

TEST_F(Places, AModelThatIsNotThereGetsTheCommandThatFetchesIt) {
  const std::string cache = (home_ / ".cache/huggingface/hub").string();
  EXPECT_EQ(run("eval someone/tiny --data x.txt").output,
            "error: there is no folder someone/tiny, and the Hugging Face cache " + cache +
                " has no someone/tiny. Fetch it: hf download someone/tiny\n");
  EXPECT_EQ(run("plan " + write_recipe().string() + " --set model=someone/tiny@v2").output,
            "error: --set model=someone/tiny@v2: model: there is no folder " +
                (fs::current_path() / "someone/tiny@v2").string() + ", and the Hugging Face cache " + cache +
                " has no someone/tiny of revision v2. Fetch it: hf download someone/tiny --revision v2\n");
  const fs::path snapshot = lay_out_cache() / "snapshots/0123abcd";
  fs::remove(snapshot / "model.safetensors");
  EXPECT_EQ(run("plan " + write_recipe().string() + " --set model=someone/tiny").output,
            "error: " + snapshot.string() +
                " has no .safetensors file: a Hugging Face model folder is expected. Fetch it: hf download "
                "someone/tiny --revision 0123abcd\n");
}

// Nothing is written where the program is installed.
TEST_F(Places, UsersHaveFoldersForDescriptorsAndPresets) {
  const std::string llama = read(ROUNDHOUSE_SOURCE "/configs/architectures/llama.yaml");
  std::string own = llama;
  own.replace(own.find("model_types:"), std::string("model_types:").size(), "model_types: [own_family, llama]  #");
  const fs::path descriptor = write("home/.config/roundhouse/architectures/own.yaml", own);
  write("home/.config/roundhouse/schemes/own.yaml",
        "version: 1\npresets:\n  OWN: {data_type: int, bits: 4, group_size: 32, sym: true}\n");
  const auto model = copy_model();
  edit_config(model, [](json& config) { config["model_type"] = "own_family"; });
  const Outcome outcome = run(quick("--set scheme=OWN --set model=" + model.string()));
  EXPECT_EQ(outcome.code, 0) << outcome.output;
  const json families = json::parse(run("architectures --json").output);
  EXPECT_EQ(families[0],
            (json{{"family", "llama"}, {"model_types", {"own_family", "llama"}}, {"file", descriptor.string()}}));
  const std::string searched = "\nSearched:\n  " + (home_ / ".config/roundhouse/architectures").string() + "\n  " +
                               ROUNDHOUSE_BUILD + "/share/roundhouse/configs/architectures\n";
  EXPECT_TRUE(run("architectures").output.ends_with(searched)) << run("architectures").output;
  EXPECT_NE(run("schemes").output.find("OWN"), std::string::npos);

  fs::create_directories(work_ / "team");
  fs::rename(home_ / ".config/roundhouse/architectures", work_ / "team/architectures");
  fs::rename(home_ / ".config/roundhouse/schemes", work_ / "team/schemes");
  ::setenv("ROUNDHOUSE_CONFIG_PATH", ((work_ / "nothing").string() + ":" + (work_ / "team").string()).c_str(), 1);
  const Outcome again = run(quick("--set scheme=OWN --set model=" + model.string()));
  const std::string list = run("architectures").output;
  ::unsetenv("ROUNDHOUSE_CONFIG_PATH");
  EXPECT_EQ(again.code, 0) << again.output;
  EXPECT_NE(list.find("\nSearched:\n  " + (work_ / "nothing/architectures").string() + "\n  " +
                      (work_ / "team/architectures").string() + "\n"),
            std::string::npos)
      << list;
}

// Every export was written before its reader refused the word.
TEST_F(Places, TheElementTypeMayBeSpelledOtherwise) {
  const auto model = copy_model();
  for (const char* spelled : {"auto", "torch.float32", "float64"}) {
    edit_config(model, [&](json& config) { config["torch_dtype"] = spelled; });
    const Outcome outcome =
        run(quick("--set formats=[auto_round,auto_gptq,auto_awq,llm_compressor] --set model=" + model.string()));
    EXPECT_EQ(outcome.code, 0) << spelled << ": " << outcome.output;
  }
}

TEST_F(Places, TensorsOfAnyTypeAreCopied) {
  const auto model = copy_model();
  std::map<std::string, Tensor> odd;
  for (const DType type : {DType::kC64, DType::kU64, DType::kU32, DType::kU16, DType::kF8E4M3Fnuz, DType::kF8E5M2Fnuz,
                           DType::kF8E8M0, DType::kF6E2M3, DType::kF6E3M2, DType::kF4E2M1}) {
    Tensor& tensor = odd["extra." + std::string(safetensors_name(type))] = Tensor(type, {2, 4});
    for (size_t i = 0; i < tensor.bytes(); ++i) tensor.as<uint8_t>()[i] = static_cast<uint8_t>(i + 1);
  }
  edit_tensors(model, [&](auto& tensors) { tensors.insert(odd.begin(), odd.end()); });
  const Outcome outcome = run(quick("--set formats=[auto_round,fake] --set model=" + model.string()));
  ASSERT_EQ(outcome.code, 0) << outcome.output;
  for (const char* format : {"auto_round", "fake"}) {
    SafetensorsFolder exported(work_ / "out" / format);
    for (const auto& [name, tensor] : odd) {
      const Tensor copied = exported.load(name);
      EXPECT_EQ(copied.dtype(), tensor.dtype()) << name;
      EXPECT_EQ(copied.shape(), tensor.shape()) << name;
      EXPECT_EQ(std::string(copied.as<char>(), copied.bytes()), std::string(tensor.as<char>(), tensor.bytes())) << name;
    }
  }
}

// The head was lost without a word, in every export.
TEST_F(Places, AHeadOfItsOwnIsExportedAndSaidSo) {
  const auto model = copy_model();
  edit_tensors(model, [](auto& tensors) {
    Tensor embedding = tensors["model.embed_tokens.weight"] = tensors.at("lm_head.weight").to(DType::kF32);
    embedding.as<float>()[0] += 1;
  });
  const Outcome outcome = run(quick("--set model=" + model.string()));
  ASSERT_EQ(outcome.code, 0) << outcome.output;
  EXPECT_NE(
      outcome.output.find("warning: config.json ties lm_head.weight to model.embed_tokens.weight, but another one "
                          "is stored: it is kept, as in transformers, and the exports say so\n"),
      std::string::npos)
      << outcome.output;
  EXPECT_TRUE(SafetensorsFolder(work_ / "out").contains("lm_head.weight"));
  EXPECT_EQ(json::parse(read(work_ / "out/config.json"))["tie_word_embeddings"], false);
}

// It was dropped with a quantized layer, and GGUF's writer waited for it in the end.
TEST_F(Places, ABiasThatNobodyAsksForIsExported) {
  const auto model = copy_model();
  const std::string bias = "model.layers.1.self_attn.k_proj.bias";
  edit_tensors(model, [&](auto& tensors) {
    Tensor& tensor = tensors[bias] = Tensor(DType::kF32, {64});
    tensor.as<float>()[63] = 1.5f;
  });
  for (const char* formats : {"fake", "auto_round", "llm_compressor"}) {
    const Outcome outcome = run(quick("--set model=" + model.string() + " --set formats=[" + formats + "]"));
    ASSERT_EQ(outcome.code, 0) << outcome.output;
    EXPECT_EQ(SafetensorsFolder(work_ / "out").load(bias).as<float>()[63], 1.5f);
  }
  const Outcome outcome = run(quick("--set scheme=GGUF:Q8_0 --set formats=[gguf] --set model=" + model.string()));
  EXPECT_EQ(outcome.code, 0) << outcome.output;
}

// Bytes of what lies beside the weights counted as the original's.
TEST_F(Places, TheOriginalsSizeIsThatOfTheFilesThatAreRead) {
  const auto model = copy_model();
  const auto bytes = fs::file_size(model / "model.safetensors");
  write("model/.git/lfs/objects/aa", std::string(100'000, 'x'));
  write("model/onnx/model.onnx", std::string(100'000, 'x'));
  write("model/consolidated.pth", std::string(100'000, 'x'));
  ASSERT_EQ(run(quick("--set model=" + model.string())).code, 0);
  EXPECT_EQ(json::parse(read(work_ / "out/roundhouse/report.json"))["models"][0]["bytes"], bytes);
}

// The run was done when it was refused.
TEST_F(Places, EvaluationIsCutToTheModelsPositions) {
  const auto model = copy_model();
  edit_config(model, [](json& config) { config["max_position_embeddings"] = 32; });
  const std::string evaluation =
      "'evaluation={data: " + kExamples + "/texts/tinystories-heldout.jsonl, seqlen: 512}' --set calibration.seqlen=32";
  const Outcome outcome = run(quick("--set model=" + model.string() + " --set " + evaluation));
  ASSERT_EQ(outcome.code, 0) << outcome.output;
  const json models = json::parse(read(work_ / "out/roundhouse/report.json"))["models"];
  const json scored = json::parse(run("eval --json --seqlen 512 " + (work_ / "out").string() + " --data " + kExamples +
                                      "/texts/tinystories-heldout.jsonl")
                                      .output);
  EXPECT_EQ(scored["seqlen"], 32);
  EXPECT_EQ(models.back()["tokens"], scored["tokens"]);
}

TEST_F(Places, PrintedCommandsCanBePasted) {
  const Outcome outcome =
      run(quick("--set formats=[auto_round] --set 'output=" + (work_ / "my \"model\"").string() + "'"));
  ASSERT_EQ(outcome.code, 0) << outcome.output;
  EXPECT_NE(outcome.output.find("vllm serve '" + (work_ / "my \"model\"").string() + "'\n"), std::string::npos)
      << outcome.output;
}

TEST_F(Places, WeightsThatNobodyReadsAreRefusedAndALeftOverWordIsNot) {
  const auto model = copy_model();
  edit_config(model, [](json& config) { config["quantization_config"] = {{"quant_method", "bitsandbytes"}}; });
  const Outcome plain = run("plan " + write_recipe().string() + " --set model=" + model.string());
  EXPECT_EQ(plain.code, 0) << plain.output;
  edit_tensors(model, [](auto& tensors) {
    tensors["model.layers.0.mlp.up_proj.weight"] = Tensor(DType::kU8, {24576, 1});
  });
  const std::string refused = "error: " + model.string() +
                              " is quantized already (bitsandbytes), and no loaded format reads that: give the "
                              "original model. Loaded formats: ";
  for (const std::string& command :
       {"plan " + write_recipe().string() + " --set model=" + model.string(),
        "eval " + model.string() + " --data " + kExamples + "/texts/tinystories-heldout.jsonl"}) {
    const Outcome outcome = run(command);
    EXPECT_EQ(outcome.code, 1);
    EXPECT_TRUE(outcome.output.starts_with(refused)) << outcome.output;
  }
}

}  // namespace
}  // namespace roundhouse
