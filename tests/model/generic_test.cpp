// SPDX-License-Identifier: Apache-2.0
// Checkpoints of families that nobody described, as tables of names and shapes.
#include "host/model/generic.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "host/base/error.h"
#include "host/model/architecture.h"

namespace roundhouse {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;
namespace fs = std::filesystem;

// Tensors of f32 that count up from 0.
class TableSource : public TensorSource {
 public:
  explicit TableSource(std::vector<std::pair<std::string, std::vector<int64_t>>> tensors)
      : tensors_(std::move(tensors)) {}
  std::vector<std::string> names() const override {
    std::vector<std::string> names;
    for (const auto& [name, shape] : tensors_) names.push_back(name);
    return names;
  }
  bool contains(const std::string& name) const override { return find(name) != nullptr; }
  Tensor load(const std::string& name) override {
    Tensor tensor(DType::kF32, *find(name));
    for (int64_t i = 0; i < tensor.elements(); ++i) tensor.as<float>()[i] = static_cast<float>(i);
    return tensor;
  }
  TensorInfo info(const std::string& name) override { return {DType::kF32, *find(name), "table"}; }
  std::string location() const override { return "table"; }

 private:
  const std::vector<int64_t>* find(const std::string& name) const {
    for (const auto& [known, shape] : tensors_)
      if (known == name) return &shape;
    return nullptr;
  }
  std::vector<std::pair<std::string, std::vector<int64_t>>> tensors_;
};

Architecture generic(const std::string& config = R"({"model_type": "nobody", "hidden_size": 64})") {
  const fs::path folder = fs::temp_directory_path() / ("rh_generic_" + std::to_string(getpid()));
  fs::create_directories(folder);
  std::ofstream(folder / "config.json") << config;
  const Architecture architecture = Architecture::load(folder, {fs::path(ROUNDHOUSE_SOURCE) / "configs/architectures"},
                                                       {.family = "", .generic = true});
  fs::remove_all(folder);
  return architecture;
}

std::vector<std::string> names_of(const std::vector<LinearInfo>& linears) {
  std::vector<std::string> names;
  for (const LinearInfo& linear : linears) names.push_back(linear.name);
  return names;
}

TEST(Generic, TakesLinearLayersByNameAndShape) {
  TableSource source({{"model.embed_tokens.weight", {96, 64}},
                      {"model.layers.0.norm.weight", {64}},
                      {"model.layers.0.attn.q_proj.weight", {64, 64}},
                      {"model.layers.0.attn.q_proj.bias", {64}},
                      {"model.layers.0.attn.k_proj.weight", {32, 64}},
                      {"model.layers.0.attn.conv1d.weight", {64, 1, 4}},
                      {"model.layers.0.attn.A_log", {64, 64}},
                      {"model.layers.1.mlp.gate.weight", {32, 64}},
                      {"model.layers.1.mlp.gate_proj.weight", {96, 64}},
                      {"model.layers.1.mlp.tiny.weight", {8, 64}},
                      {"model.visual.blocks.0.qkv.weight", {96, 64}},
                      {"model.final.weight", {64, 64}},
                      {"lm_head.weight", {96, 64}}});
  Architecture architecture = generic();
  EXPECT_EQ(architecture.facts(), nlohmann::json::object());
  EXPECT_TRUE(architecture.stacks(source).empty());
  architecture.match(source);
  EXPECT_EQ(architecture.block_prefix(), "model.layers");
  ASSERT_EQ(architecture.blocks(), 2);
  EXPECT_THAT(names_of(architecture.block_linears(0)),
              ElementsAre("model.layers.0.attn.q_proj", "model.layers.0.attn.k_proj"));
  EXPECT_THAT(names_of(architecture.block_linears(1)), ElementsAre("model.layers.1.mlp.gate_proj"));
  EXPECT_THAT(names_of(architecture.outer_linears()), ElementsAre("model.final"));
  EXPECT_EQ(architecture.block_tensors(0).size(), 6u);
  EXPECT_EQ(architecture.head().out_features, 96);
  EXPECT_TRUE(architecture.has_head());
  const LinearInfo q = architecture.block_linears(0)[0], k = architecture.block_linears(0)[1];
  EXPECT_TRUE(q.has_bias);
  EXPECT_FALSE(k.has_bias);
  EXPECT_EQ(q.role, "q_proj");
  EXPECT_FALSE(q.siblings.empty());
  EXPECT_EQ(q.siblings, k.siblings);
  EXPECT_THAT(architecture.left(),
              ElementsAre(Pair("model.embed_tokens", "embedding"), Pair("model.layers.0.attn.conv1d", "convolution"),
                          Pair("model.layers.0.attn.A_log", "no linear layer by its name"),
                          Pair("model.layers.1.mlp.gate", "router"),
                          Pair("model.layers.1.mlp.tiny", "fewer than 32 rows or columns"),
                          Pair("model.visual.blocks.0.qkv", "vision or audio")));
  EXPECT_FALSE(architecture.facts()["names"].contains("modules"));
}

TEST(Generic, AHeadThatIsTheEmbeddingTooIsNoLayer) {
  TableSource source({{"layers.0.up_proj.weight", {96, 64}}, {"lm_head.weight", {96, 64}}});
  Architecture architecture = generic(R"({"tie_word_embeddings": true})");
  architecture.match(source);
  EXPECT_FALSE(architecture.has_head());
  EXPECT_EQ(architecture.facts()["tied_head"], false);
  EXPECT_THAT(architecture.left(), ElementsAre(Pair("lm_head", "output head")));
}

TEST(Generic, AHeadThatIsNotStoredIsTied) {
  TableSource source({{"language_model.model.layers.0.up_proj.weight", {96, 64}}});
  Architecture architecture = generic(R"({"text_config": {"hidden_size": 64}})");
  architecture.match(source);
  EXPECT_FALSE(architecture.has_head());
  const nlohmann::json facts = architecture.facts();
  EXPECT_EQ(facts["head"], "lm_head");
  EXPECT_EQ(facts["tied_head"], true);
  EXPECT_EQ(facts["block_prefix"], "language_model.model.layers");
  EXPECT_EQ(facts["names"]["modules"]["language_model.model"], "model.language_model");
}

TEST(Generic, ExpertsByThemselvesAreStacksToo) {
  TableSource source(
      {{"model.layers.3.experts.0.w1.weight", {96, 64}}, {"model.layers.3.experts.1.w1.weight", {96, 64}}});
  Architecture architecture = generic();
  architecture.match(source);
  const LinearInfo second = architecture.block_linears(3)[1];
  ASSERT_TRUE(second.stack);
  EXPECT_EQ(second.stack->name, "model.layers.3.experts.w1");
  EXPECT_EQ(second.stack->index, 1);
  EXPECT_EQ(second.stack->count, 2);
  EXPECT_NE(second.siblings, architecture.block_linears(3)[0].siblings);
}

// A stack's matrices are equal, and counted from 0 without a gap.
TEST(Generic, UnequalLayersAreNoStack) {
  TableSource source({{"layers.0.experts.0.w1.weight", {96, 64}},
                      {"layers.0.experts.2.w1.weight", {96, 64}},
                      {"layers.0.experts.0.w2.weight", {96, 64}},
                      {"layers.0.experts.1.w2.weight", {64, 64}},
                      {"layers.0.to_out.0.weight", {96, 64}}});
  Architecture architecture = generic();
  architecture.match(source);
  ASSERT_EQ(architecture.blocks(), 1);
  for (const LinearInfo& layer : architecture.block_linears(0)) EXPECT_FALSE(layer.stack) << layer.name;
}

TEST(Generic, NumbersHaveNoSign) {
  TableSource source({{"layers.-1.w1.weight", {96, 64}}, {"layers.0.w1.weight", {96, 64}}});
  Architecture architecture = generic();
  architecture.match(source);
  ASSERT_EQ(architecture.blocks(), 1);
  EXPECT_THAT(names_of(architecture.outer_linears()), ElementsAre("layers.-1.w1"));
}

// gate_up of [2, 4, 6] is stored with the input (4, the hidden size) first; down, square, is stored alike.
TEST(Generic, StacksBecomeMatrices) {
  auto table = std::make_unique<TableSource>(std::vector<std::pair<std::string, std::vector<int64_t>>>{
      {"model.layers.0.experts.gate_up_proj", {2, 4, 6}}, {"model.layers.0.experts.down_proj", {2, 4, 4}}});
  Architecture architecture = generic(R"({"hidden_size": 4})");
  const std::vector<StackedTensor> stacks = architecture.stacks(*table);
  StackedSource source(std::move(table), stacks);
  EXPECT_THAT(source.names(),
              ElementsAre("model.layers.0.experts.0.gate_proj.weight", "model.layers.0.experts.0.up_proj.weight",
                          "model.layers.0.experts.1.gate_proj.weight", "model.layers.0.experts.1.up_proj.weight",
                          "model.layers.0.experts.0.down_proj.weight", "model.layers.0.experts.1.down_proj.weight"));
  EXPECT_FALSE(source.contains("model.layers.0.experts.2.up_proj.weight"));
  const std::string up_name = "model.layers.0.experts.1.up_proj.weight";
  EXPECT_EQ(source.info(up_name).shape, (std::vector<int64_t>{3, 4}));
  EXPECT_TRUE(source.part(up_name)->transposed);
  const Tensor up = source.load(up_name), down = source.load("model.layers.0.experts.1.down_proj.weight");
  for (int64_t row = 0; row < 3; ++row)
    for (int64_t col = 0; col < 4; ++col)
      EXPECT_EQ(up.as<float>()[row * 4 + col], static_cast<float>(24 + col * 6 + 3 + row));
  for (int64_t row = 0; row < 4; ++row)
    for (int64_t col = 0; col < 4; ++col)
      EXPECT_EQ(down.as<float>()[row * 4 + col], static_cast<float>(16 + col * 4 + row));
}

TEST(Generic, AStackWithABiasStaysOneMatrixAnExpert) {
  TableSource source({{"layers.0.experts.gate_up_proj", {2, 96, 64}}, {"layers.0.experts.gate_up_proj_bias", {2, 96}}});
  const std::vector<StackedTensor> stacks = generic().stacks(source);
  ASSERT_EQ(stacks.size(), 1u);
  EXPECT_THAT(stacks[0].parts, ElementsAre("layers.0.experts.{}.gate_up_proj.weight"));
  EXPECT_FALSE(stacks[0].transposed);
}

TEST(Generic, AStackWhoseInputCannotBeToldIsRefused) {
  TableSource source({{"layers.0.experts.down_proj", {2, 96, 32}}});
  try {
    generic().stacks(source);
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("layers.0.experts.down_proj is [2, 96, 32]"));
    EXPECT_THAT(e.what(), HasSubstr("neither has the 64 channels of the hidden states"));
  }
}

}  // namespace
}  // namespace roundhouse
