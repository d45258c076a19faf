// SPDX-License-Identifier: Apache-2.0
// Every preset, end to end: two iterations on a real Llama, and many on an OPT of random weights, exported, read back.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "host/checkpoint/writer.h"
#include "host/recipe/scheme_choice.h"
#include "tests/cli/program.h"

namespace roundhouse {
namespace {

const std::string kSchemes = ROUNDHOUSE_SOURCE "/configs/schemes";

std::vector<std::string> preset_names() {
  std::vector<std::string> names;
  for (const Preset& preset : list_presets({kSchemes})) names.push_back(preset.name);
  return names;
}

// A folder with an OPT of two blocks and width 256, which the 256-column blocks of GGUF's K types need.
std::string write_opt(const std::filesystem::path& folder) {
  constexpr int64_t kHidden = 256, kFeedForward = 512, kVocab = 2048, kPositions = 128, kBlocks = 2;
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "config.json") << nlohmann::json{{"model_type", "opt"},
                                                          {"architectures", {"OPTForCausalLM"}},
                                                          {"dtype", "bfloat16"},
                                                          {"vocab_size", kVocab},
                                                          {"hidden_size", kHidden},
                                                          {"ffn_dim", kFeedForward},
                                                          {"num_hidden_layers", kBlocks},
                                                          {"num_attention_heads", 4},
                                                          {"max_position_embeddings", kPositions},
                                                          {"word_embed_proj_dim", kHidden},
                                                          {"activation_function", "relu"},
                                                          {"tie_word_embeddings", true}};
  std::filesystem::copy(kExamples + "/tinystories-656k/tokenizer.json", folder / "tokenizer.json");

  std::mt19937 random(7);
  std::normal_distribution<float> normal(0.0f, 0.05f);
  std::vector<std::pair<std::string, Tensor>> tensors;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape, float mean) {
    Tensor tensor(DType::kF32, std::move(shape));
    for (int64_t i = 0; i < tensor.elements(); ++i) tensor.as<float>()[i] = mean + normal(random);
    tensors.emplace_back("model.decoder." + name, tensor.to(DType::kBF16));
  };
  const auto add_both = [&](const std::string& name, std::vector<int64_t> shape, float mean) {
    const int64_t rows = shape[0];
    add(name + ".weight", std::move(shape), mean);
    add(name + ".bias", {rows}, 0);
  };
  add("embed_tokens.weight", {kVocab, kHidden}, 0);
  add("embed_positions.weight", {kPositions + 2, kHidden}, 0);
  add_both("final_layer_norm", {kHidden}, 1);
  for (int64_t block = 0; block < kBlocks; ++block) {
    const std::string prefix = "layers." + std::to_string(block) + ".";
    for (const char* name : {"q_proj", "k_proj", "v_proj", "out_proj"})
      add_both(prefix + "self_attn." + name, {kHidden, kHidden}, 0);
    add_both(prefix + "self_attn_layer_norm", {kHidden}, 1);
    add_both(prefix + "final_layer_norm", {kHidden}, 1);
    add_both(prefix + "fc1", {kFeedForward, kHidden}, 0);
    add_both(prefix + "fc2", {kHidden, kFeedForward}, 0);
  }
  write_safetensors_file(folder / "model.safetensors", tensors);
  return folder.string();
}

class Presets : public WorkFolder, public testing::WithParamInterface<std::string> {
 protected:
  // The recipe's own perplexities: of the original, of plain rounding and of the export.
  void tune(const std::string& model, const char* iters) {
    // GGUF's types fall back, layer by layer, when that format is asked to assign them.
    const std::string format =
        GetParam().starts_with("GGUF") && model.find("opt") == std::string::npos ? "gguf" : "fake";
    write_recipe("formats: [" + format + "]\nevaluation: {data: " + kExamples +
                 "/texts/tinystories-heldout.jsonl, seqlen: 32}\n");
    const Outcome outcome = run("run " + (work_ / "recipe.yaml").string() + " --overwrite --set model=" + model +
                                " --set scheme=" + GetParam() +
                                " --set calibration.samples=2 --set calibration.seqlen=32 --set tuning.iters=" + iters);
    ASSERT_EQ(outcome.code, 0) << outcome.output;
    const auto report = nlohmann::json::parse(read(work_ / "out/roundhouse/report.json"));
    const double before = report["models"].front()["perplexity"], after = report["models"].back()["perplexity"];
    EXPECT_TRUE(std::isfinite(after)) << outcome.output;
    EXPECT_GT(after, before * 0.8) << outcome.output;
    // Two bits destroy a model of this size, but do not break it.
    EXPECT_LT(after, before * (GetParam().find('2') == std::string::npos ? 3 : 60)) << outcome.output;
    EXPECT_GT(report["models"].back()["verified"].get<std::string>().size(), 0u);
  }
};

std::string test_name(const testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); }, '_');
  return name;
}

TEST_P(Presets, TunesALlama) { tune(kExamples + "/tinystories-656k", "2"); }

INSTANTIATE_TEST_SUITE_P(Schemes, Presets, testing::ValuesIn(preset_names()), test_name);

// Not those that differ from one of these in bits or group size alone.
class PresetsOfAnOpt : public Presets {};

TEST_P(PresetsOfAnOpt, AreTuned) { tune(write_opt(work_ / "opt"), "2"); }
TEST_P(PresetsOfAnOpt, AreRounded) { tune(write_opt(work_ / "opt"), "0"); }

INSTANTIATE_TEST_SUITE_P(Schemes, PresetsOfAnOpt,
                         testing::Values("FPW8A16", "FP8_STATIC", "FP8_BLOCK", "GGUF:Q4_0", "GGUF:Q4_1", "GGUF:Q2_K",
                                         "GGUF:Q3_K_M", "GGUF:Q4_K_M", "GGUF:Q6_K", "W2A16", "W4A16G32", "W4A16_MIXED",
                                         "W8A16", "INT8", "INT4", "MXFP4", "MXFP6", "MXFP8_RCEIL", "MXINT4", "NVFP4",
                                         "NVFP4_E5M3", "W4FP8", "W4AFP8"),
                         test_name);

}  // namespace
}  // namespace roundhouse
