// SPDX-License-Identifier: Apache-2.0
// What holds where config.json and the stored tensors differ. That it is what transformers computes: decoder_test.
#include "host/plan/original.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "host/base/error.h"
#include "host/base/files.h"
#include "host/checkpoint/safetensors.h"
#include "host/checkpoint/writer.h"
#include "tests/temp_folder.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;
using Tensors = std::map<std::string, Tensor>;

const fs::path kModel = ROUNDHOUSE_SOURCE "/tests/data/models/stories260K";  // tied, 5 blocks, without biases
const fs::path kFamilies = ROUNDHOUSE_SOURCE "/configs/architectures";

class OriginalTest : public testing::Test {
 protected:
  OriginalTest() : config_(read_json_object(kModel / "config.json")) {
    SafetensorsFolder source(kModel);
    for (const std::string& name : source.names()) tensors_[name] = source.load(name);
  }
  Original open() {
    folder_.write("config.json", config_.dump());
    write_safetensors_file(folder_.path() / "model.safetensors", {tensors_.begin(), tensors_.end()});
    auto tensors = std::make_unique<SafetensorsFolder>(folder_.path());
    Original original{ModelFiles(folder_.path()), Architecture::load(folder_.path(), {kFamilies}), nullptr, {}, {}};
    original.warnings = reconcile(original.architecture, *tensors);
    original.tensors = std::move(tensors);
    return original;
  }
  std::string error() {
    try {
      open();
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  }
  static std::vector<std::string> names(const Original& original) {
    std::vector<std::string> names = original.tensors->names();
    std::sort(names.begin(), names.end());
    return names;
  }
  // Renames the tensors whose name begins so.
  void rename(const std::string& from, const std::string& to, bool keep = false) {
    for (const auto& [name, tensor] : Tensors(tensors_)) {
      if (!name.starts_with(from)) continue;
      if (!keep) tensors_.erase(name);
      tensors_[to + name.substr(from.size())] = tensor;
    }
  }

  const TempFolder folder_;
  nlohmann::json config_;
  Tensors tensors_;
};

using Texts = std::vector<std::string>;

TEST_F(OriginalTest, AModelThatAgreesIsAsItIs) {
  const Original original = open();
  EXPECT_EQ(original.warnings, Texts{});
  EXPECT_TRUE(original.architecture.tied_head());
  EXPECT_EQ(original.architecture.config(), config_);
}

TEST_F(OriginalTest, AnotherHeadThanTheEmbeddingIsKept) {
  const Tensor& embedding = tensors_.at("model.embed_tokens.weight");
  Tensor head = tensors_["lm_head.weight"] = embedding.to(DType::kF32);
  EXPECT_EQ(open().warnings, Texts{}) << "the same values";
  head.as<float>()[head.elements() - 1] += 1;
  const Original original = open();
  EXPECT_EQ(
      original.warnings,
      Texts{"config.json ties lm_head.weight to model.embed_tokens.weight, but another one is stored: it is kept, "
            "as in transformers, and the exports say so"});
  EXPECT_FALSE(original.architecture.tied_head());
  EXPECT_EQ(original.architecture.config()["tie_word_embeddings"], false);
}

// Nothing in config.json says otherwise; the default of the family does.
TEST_F(OriginalTest, AnotherHeadOfAFamilyWhoseDefaultIsTiedIsNoWarning) {
  config_.erase("tie_word_embeddings");
  config_["model_type"] = "smollm3";
  Tensor head = tensors_["lm_head.weight"] = tensors_.at("model.embed_tokens.weight").to(DType::kF32);
  head.as<float>()[0] += 1;
  const Original original = open();
  EXPECT_EQ(original.warnings, Texts{});
  EXPECT_FALSE(original.architecture.tied_head());
  EXPECT_EQ(original.architecture.config()["tie_word_embeddings"], false);
}

// As in transformers, which reads the shards in the order of their names; the index said which copy counts.
TEST_F(OriginalTest, OfATensorThatTwoShardsHoldTheLastCounts) {
  const Tensor norm = tensors_.at("model.norm.weight");
  Tensor other = norm.to(DType::kF32);
  other.as<float>()[0] += 1;
  folder_.write("config.json", config_.dump());
  write_safetensors_file(
      folder_.path() / "1.safetensors",
      {{"model.norm.weight", other}, {"model.embed_tokens.weight", tensors_.at("model.embed_tokens.weight")}});
  write_safetensors_file(folder_.path() / "2.safetensors", {tensors_.begin(), tensors_.end()});
  folder_.write(
      "model.safetensors.index.json",
      R"({"weight_map": {"model.norm.weight": "1.safetensors", "model.embed_tokens.weight": "2.safetensors"}})");
  SafetensorsFolder checkpoint(folder_.path());
  EXPECT_EQ(copies_that_differ(checkpoint),
            Texts{"model.norm.weight stands in 1.safetensors and in 2.safetensors, and not with the same values: those "
                  "of 2.safetensors, the last by its name, count, as in transformers"});
  EXPECT_EQ(checkpoint.load("model.norm.weight").as<float>()[0], norm.to(DType::kF32).as<float>()[0]);
}

TEST_F(OriginalTest, NamesWithoutTheModelsPrefixGetIt) {
  const Texts right = names(open());
  rename("model.", "");
  const Original original = open();
  EXPECT_EQ(original.warnings, Texts{});
  EXPECT_EQ(names(original), right);
}

TEST_F(OriginalTest, BlocksBeyondThoseOfTheConfigAreLeftOut) {
  const Texts right = names(open());
  rename("model.layers.1.", "model.layers.5.", /*keep=*/true);
  const Original original = open();
  EXPECT_EQ(original.warnings, Texts{"the checkpoint stores 6 blocks, and config.json says that the model has 5: the "
                                     "others are left out"});
  EXPECT_EQ(names(original), right);
  config_["num_hidden_layers"] = 7;
  EXPECT_EQ(error(), folder_.path().string() +
                         ": config.json says that the model has 7 blocks, but 6 are stored: the two do not belong "
                         "together");
}

TEST_F(OriginalTest, ABiasThatIsNotStoredIsZero) {
  config_["attention_bias"] = true;
  for (int block = 0; block < 5; ++block)
    for (const auto& [name, rows] : {std::pair{"q", 64}, {"k", 32}, {"v", 32}})
      tensors_[cat("model.layers.", block, ".self_attn.", name, "_proj.bias")] = Tensor(DType::kF32, {rows});
  const Original original = open();
  EXPECT_EQ(original.warnings, Texts{"model.layers.0.self_attn.o_proj.bias and 4 others are not stored, though "
                                     "config.json asks for them: zeros take the place, as in transformers"});
  const Tensor bias = original.tensors->load("model.layers.4.self_attn.o_proj.bias");
  EXPECT_EQ(bias.shape(), std::vector<int64_t>{64});
  EXPECT_EQ(bias.as<float>()[63], 0);
}

TEST_F(OriginalTest, ABiasThatNobodyAsksForIsNoPartOfTheModel) {
  Tensor bias(DType::kF32, {172});
  tensors_["model.layers.3.mlp.up_proj.bias"] = bias;
  EXPECT_EQ(open().warnings, Texts()) << "zeros change nothing";
  bias.as<float>()[1] = 1;
  const Original original = open();
  EXPECT_EQ(original.warnings,
            Texts{"model.layers.3.mlp.up_proj.bias is stored, but config.json asks for no such bias: the model is "
                  "computed without, as in transformers; exports keep what is stored, and an engine that heeds it "
                  "computes otherwise"});
  EXPECT_TRUE(original.tensors->contains("model.layers.3.mlp.up_proj.bias"));
  for (const LinearInfo& linear : original.architecture.block_linears(3)) EXPECT_FALSE(linear.has_bias);
}

TEST_F(OriginalTest, AnEmptyRopeScalingSaysNothing) {
  config_["rope_scaling"] = nlohmann::json::object();
  config_["rope_parameters"] = {{"rope_type", "linear"}, {"rope_theta", 500.0}, {"factor", 2.0}};
  EXPECT_EQ(open().architecture.info().rotary->theta, 500);
  config_.erase("rope_parameters");
  EXPECT_EQ(open().architecture.info().rotary->theta, 10000);
}

TEST_F(OriginalTest, SpecialTokensBeyondTheEmbeddingAreToldOf) {
  config_.update({{"eos_token_id", {2, 512}}, {"pad_token_id", -1}, {"bos_token_id", nullptr}});
  folder_.write("generation_config.json", R"({"eos_token_id": 512, "bos_token_id": 511, "pad_token_id": 600})");
  const std::string advice =
      " is beyond the 512 rows of the embedding, and an engine that gives that token to the model fails: correct the "
      "id, or resize the embedding (resize_token_embeddings in transformers)";
  EXPECT_EQ(tokens_beyond(open().architecture, folder_.path()),
            (Texts{"eos_token_id 512 (config.json, generation_config.json)" + advice,
                   "pad_token_id 600 (generation_config.json)" + advice}));
}

}  // namespace
}  // namespace roundhouse
