// SPDX-License-Identifier: Apache-2.0
// The decoder against transformers, on the models of make_models.py.
#include "host/model/decoder.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <fstream>
#include <functional>
#include <limits>
#include <set>

#include "host/base/error.h"
#include "host/checkpoint/safetensors.h"
#include "host/model/perplexity.h"
#include "host/plan/original.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

const fs::path kModels = TEST_MODELS;

Architecture load_architecture(const fs::path& model) {
  const fs::path source = ROUNDHOUSE_SOURCE;
  return Architecture::load(model, {source / "configs/architectures", source / "tests/model/descriptors"});
}

at::Tensor logits(const Decoder& decoder, int64_t blocks, const at::Tensor& ids) {
  const at::NoGradGuard no_grad;
  const PositionData positions = decoder.positions(ids.size(1));
  at::Tensor hidden = decoder.embed(ids);
  for (int64_t i = 0; i < blocks; ++i) hidden = decoder.block(i).forward(hidden, positions);
  return decoder.head(hidden);
}

// One of make_models.py's models.
struct Model {
  explicit Model(const fs::path& folder)
      : architecture(load_architecture(folder)),
        tensors(std::make_unique<SafetensorsFolder>(folder)),
        reference(folder / "reference") {
    match(architecture, tensors);
    std::ifstream(folder / "reference/reference.json") >> facts;
    reconcile(architecture, *tensors);
  }
  at::Tensor logits(at::ScalarType dtype) {
    const at::Tensor ids = to_torch(reference.load("ids"));
    return roundhouse::logits(Decoder(architecture, *tensors, dtype, at::kCPU), architecture.blocks(), ids)
        .to(at::kFloat);
  }
  at::Tensor expected(const std::string& name) { return to_torch(reference.load(name)).to(at::kFloat); }

  Architecture architecture;
  std::unique_ptr<TensorSource> tensors;
  SafetensorsFolder reference;
  nlohmann::json facts;
};

// Two threads on models this small only wait for each other.
void use_one_thread() { at::set_num_threads(1); }

void for_each_model(const std::function<void(Model&)>& check) {
  use_one_thread();
  ASSERT_TRUE(fs::is_directory(kModels)) << "ctest makes the models; by hand: make_models.py " << kModels;
  for (const auto& entry : fs::directory_iterator(kModels)) {
    SCOPED_TRACE(entry.path().filename().string());
    Model model(entry.path());
    check(model);
  }
}

TEST(Families, LogitsEqualTransformers) {
  for_each_model([](Model& model) {
    const at::Tensor actual = model.logits(at::kFloat), expected = model.expected("logits");
    EXPECT_TRUE(at::allclose(actual, expected, 1e-4, 1e-4))
        << "largest difference " << (actual - expected).abs().max().item<float>();
    // benchmarks/families.py reads it.
    std::printf("largest logit difference of %s: %.2g\n", model.architecture.family().c_str(),
                (actual - expected).abs().max().item<double>());
  });
}

// Names are matched again after stacks became matrices.
TEST(Families, AHeadOfItsOwnStaysSoWhenNamesAreMatchedAgain) {
  Model model(kModels / "nemotron_h_old");
  EXPECT_FALSE(model.architecture.tied_head());
  model.architecture.match(*model.tensors);
  EXPECT_FALSE(model.architecture.tied_head());
}

// Both are as far from float32, and no farther from each other: they round at the same places.
TEST(Families, Bfloat16RoundsAsTransformersDoes) {
  for_each_model([](Model& model) {
    // Of most tokens, where there are experts: one that is near a tie may go to another expert.
    const bool has_experts = first_experts(model.architecture.info());
    const auto distance = [&](const at::Tensor& a, const at::Tensor& b) {
      const at::Tensor squares = (a - b).square();
      return (has_experts ? squares.mean(-1).median() : squares.mean()).sqrt().item<float>();
    };
    const at::Tensor exact = model.expected("logits"), theirs = model.expected("bf16_logits");
    const at::Tensor ours = model.logits(at::kBFloat16);
    const float error = distance(theirs, exact);
    EXPECT_GT(error, 0);
    const float most = (has_experts ? 1.5f : 1.25f) * error;
    EXPECT_LT(distance(ours, theirs), most);
    EXPECT_LT(distance(ours, exact), most);
  });
}

// A few elements may be rounded the other way: libtorch and transformers add up squares in another order.
TEST(Families, ANormRoundsBeforeOrAfterItsWeightAsTransformersDoes) {
  for_each_model([](Model& model) {
    if (!model.architecture.info().final_norm) return;
    const Decoder decoder(model.architecture, *model.tensors, at::kBFloat16, at::kCPU);
    const at::NoGradGuard no_grad;
    const at::Tensor input = model.expected("norm_input").to(at::kBFloat16);
    const at::Tensor differ = decoder.head_input(input).to(at::kFloat).ne(model.expected("norm_output"));
    EXPECT_LT(differ.to(at::kFloat).mean().item<float>(), 0.02f);
  });
}

TEST(Families, PerplexityEqualsTransformers) {
  for_each_model([](Model& model) {
    const auto sequences = model.facts["sequences"].get<std::vector<std::vector<int32_t>>>();
    int64_t calls = 0;
    const Perplexity result =
        perplexity(model.architecture, *model.tensors, sequences, [&](int64_t done, int64_t total) {
          EXPECT_EQ(done, ++calls);
          EXPECT_EQ(total, model.architecture.blocks());
        });
    EXPECT_EQ(calls, model.architecture.blocks());
    EXPECT_EQ(result.tokens, 8 + 23 + 0 + 23 + 1);
    EXPECT_NEAR(result.value / model.facts["perplexity"].get<double>(), 1, 1e-5);
  });
}

TEST(Families, TheArchitectureNamesEveryTensorOfTheCheckpoint) {
  for_each_model([](Model& model) {
    const Architecture& architecture = model.architecture;
    std::set<std::string> named, stored;
    for (const std::string& name : architecture.outer_tensors()) named.insert(name);
    for (int64_t i = 0; i < architecture.blocks(); ++i)
      for (const std::string& name : architecture.block_tensors(i)) named.insert(name);
    for (const std::string& name : model.tensors->names()) {
      const bool tied = architecture.tied_head() && name == architecture.head().name + ".weight";
      const bool vision = name.find("vis") != std::string::npos || name.starts_with("multi_modal") ||
                          name.find("mm_projector") != std::string::npos;
      if (!vision) stored.insert(tied ? architecture.embedding_name() + ".weight" : name);
    }
    EXPECT_EQ(named, stored);
  });
}

// Of these models the second block, so that what every other block has is among them.
class PartsTest : public testing::TestWithParam<const char*> {
 protected:
  PartsTest() {
    use_one_thread();
    at::manual_seed(5);
  }
  Block block(at::ScalarType dtype) { return Block(architecture_, 1, source_, dtype, at::kCPU); }
  PositionData positions(at::ScalarType dtype) {
    return Decoder(architecture_, source_, dtype, at::kCPU).positions(kLength);
  }

  static constexpr int64_t kLength = 12;
  SafetensorsFolder source_{kModels / GetParam()};
  const Architecture architecture_ = [this] {
    Architecture architecture = load_architecture(kModels / GetParam());
    architecture.match(source_);
    return architecture;
  }();
};

TEST_P(PartsTest, GradientsOfReplacedWeightsEqualFiniteDifferences) {
  const Block loaded = block(at::kDouble);
  const PositionData places = positions(at::kDouble);
  const at::Tensor hidden = at::randn({2, kLength, architecture_.hidden_size()}, at::kDouble);
  const at::Tensor direction = at::randn_like(hidden);
  for (size_t slot = 0; slot < loaded.linears().size(); ++slot) {
    Block changed = loaded;
    const auto loss_with = [&](const at::Tensor& weight) {
      changed.linears()[slot].weight = weight;
      return (changed.forward(hidden, places) * direction).sum();
    };
    const at::Tensor& weight = loaded.linears()[slot].weight;
    const at::Tensor leaf = weight.clone().set_requires_grad(true);
    const at::Tensor gradient = torch::autograd::grad({loss_with(leaf)}, {leaf})[0];
    const at::Tensor step = at::randn_like(weight) * 1e-4;
    const double expected = (loss_with(weight + step) - loss_with(weight - step)).item<double>() / 2;
    EXPECT_NEAR((gradient * step).sum().item<double>() / expected, 1, 1e-4) << loaded.linears()[slot].info.name;
  }
}

TEST_P(PartsTest, BitsDoNotDependOnTheThreads) {
  std::vector<at::Tensor> results[2];
  for (int run = 0; run < 2; ++run) {
    at::set_num_threads(run + 1);
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      Block b = block(dtype);
      const at::Tensor x = at::ones({4, kLength, architecture_.hidden_size()}).cumsum(1).cos_().to(dtype);
      std::vector<at::Tensor> weights;
      for (LinearSlot& slot : b.linears()) {
        slot.weight = slot.weight.clone().set_requires_grad(true);
        weights.push_back(slot.weight);
      }
      const at::Tensor y = b.forward(x, positions(dtype));
      results[run].push_back(y.detach());
      for (at::Tensor& gradient : torch::autograd::grad({y}, weights, {x})) results[run].push_back(gradient);
    }
  }
  use_one_thread();
  ASSERT_EQ(results[0].size(), results[1].size());
  for (size_t i = 0; i < results[0].size(); ++i) EXPECT_TRUE(at::equal(results[0][i], results[1][i])) << i;
}

INSTANTIATE_TEST_SUITE_P(, PartsTest,
                         testing::Values("llama", "gemma2", "gemma3_text", "cohere_norms", "hunyuan", "nemotron",
                                         "apertus", "granite", "phi3_longrope", "falcon_180b", "falcon_rw",
                                         "stablelm_parallel", "olmo", "ministral3", "youtu", "gemma4_text",
                                         "llama_sinks", "qwen3_5_full", "lfm2", "qwen3_next_dense", "qwen3_5_text",
                                         "bamba_biased", "nemotron_h_old", "falcon_h1", "falcon_h1_normed"),
                         [](const auto& info) { return std::string(info.param); });

class BlockTest : public testing::Test {
 protected:
  BlockTest() {
    use_one_thread();
    at::manual_seed(5);
  }
  Block block(at::ScalarType dtype = at::kFloat) { return Block(architecture_, 0, source_, dtype, at::kCPU); }

  const Architecture architecture_ = load_architecture(kModels / "llama");
  SafetensorsFolder source_{kModels / "llama"};
  const Decoder decoder_{architecture_, source_, at::kFloat, at::kCPU};
  const PositionData positions_ = decoder_.positions(12);
  const at::Tensor hidden_ = at::randn({2, 12, architecture_.hidden_size()});
};

TEST_F(BlockTest, TheHookSeesEachInputAndReplacesIt) {
  Block hooked = block();
  std::vector<int64_t> widths;
  hooked.set_input_hook([&](const LinearInfo& linear, const at::Tensor& input) {
    EXPECT_EQ(linear.name, hooked.linears()[widths.size()].info.name);
    widths.push_back(input.size(-1));
    EXPECT_EQ(input.sizes().vec(), (std::vector<int64_t>{2, 12, linear.in_features}));
    return linear.role == "down_proj" ? at::zeros_like(input) : input;
  });
  Block without_down = block();
  without_down.linears()[6].weight = at::zeros_like(without_down.linears()[6].weight);
  EXPECT_TRUE(at::equal(hooked.forward(hidden_, positions_), without_down.forward(hidden_, positions_)));
  EXPECT_EQ(widths.size(), hooked.linears().size());
}

// A source with one tensor exchanged.
class Changed : public TensorSource {
 public:
  Changed(TensorSource& source, std::string name, at::Tensor tensor)
      : source_(source), name_(std::move(name)), tensor_(std::move(tensor)) {}
  std::vector<std::string> names() const override { return source_.names(); }
  bool contains(const std::string& name) const override { return source_.contains(name); }
  Tensor load(const std::string& name) override { return name == name_ ? from_torch(tensor_) : source_.load(name); }
  std::string location() const override { return "/models/changed"; }

 private:
  TensorSource& source_;
  const std::string name_;
  const at::Tensor tensor_;
};

TEST_F(BlockTest, RefusesWeightsThatAreDamagedOrOfAnotherShape) {
  const auto error_with = [&](const std::string& name, const at::Tensor& tensor) -> std::string {
    Changed source(source_, name, tensor);
    try {
      Block(architecture_, 0, source, at::kFloat, at::kCPU);
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  };
  const std::string name = "model.layers.0.mlp.up_proj.weight";
  EXPECT_THAT(error_with(name, at::ones({80, 40})),
              AllOf(HasSubstr("/models/changed: " + name), HasSubstr("[80, 40]"), HasSubstr("[80, 48]")));
  EXPECT_THAT(error_with(name, at::ones({80, 48}, at::kInt)), AllOf(HasSubstr(name), HasSubstr("I32")));
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), -std::numeric_limits<double>::infinity()}) {
    at::Tensor weight = at::ones({80, 48});
    weight[3][5] = bad;
    EXPECT_THAT(error_with(name, weight), AllOf(HasSubstr("/models/changed: " + name), HasSubstr("[3, 5]")));
  }
}

TEST_F(BlockTest, DamageIsLookedForOnce) {
  const std::string name = "model.layers.0.mlp.up_proj.weight";
  at::Tensor weight = at::ones({80, 48});
  Changed changed(source_, name, weight);
  FiniteSource source(changed);
  for (const std::string& each : source.names()) source.load(each);
  weight[3][5] = std::numeric_limits<double>::quiet_NaN();  // as no file does
  EXPECT_NO_THROW(source.load(name));
  EXPECT_NO_THROW(Block(architecture_, 0, source, at::kFloat, at::kCPU));
  const Decoder decoder(architecture_, changed, at::kFloat, at::kCPU);
  EXPECT_THROW(decoder.block(0), Error);
  EXPECT_THROW(FiniteSource(changed).load(name), Error);
  EXPECT_NO_THROW(FiniteSource(changed, {name}).load(name)) << "no part of the model";
}

TEST_F(BlockTest, RefusesTokensOutsideTheVocabularyAndSequencesBeyondTheLearnedPositions) {
  EXPECT_THROW(decoder_.embed(at::full({1, 2}, architecture_.vocab_size(), at::kLong)), Error);
  EXPECT_THROW(decoder_.embed(at::full({1, 2}, -1, at::kLong)), Error);

  const Architecture architecture = load_architecture(kModels / "opt");
  SafetensorsFolder source(kModels / "opt");
  const Decoder decoder(architecture, source, at::kFloat, at::kCPU);
  EXPECT_NO_THROW(decoder.embed(at::zeros({1, architecture.max_positions()}, at::kLong)));
  EXPECT_THROW(decoder.embed(at::zeros({1, architecture.max_positions() + 1}, at::kLong)), Error);
}

TEST_F(BlockTest, PerplexityNeedsTwoTokens) { EXPECT_THROW(perplexity(architecture_, source_, {{}, {4}}), Error); }

TEST(ToTorch, SharesTheStorageAndKeepsItAlive) {
  Tensor tensor(DType::kF32, {2, 3});
  tensor.as<float>()[4] = 7;
  const float* data = tensor.as<float>();
  const at::Tensor there = to_torch(tensor);
  tensor = Tensor();
  EXPECT_EQ(there.const_data_ptr<float>(), data);
  EXPECT_EQ(there[1][1].item<float>(), 7);
  const Tensor back = from_torch(there);
  EXPECT_EQ(back.as<float>(), data);
  EXPECT_EQ(back.shape(), (std::vector<int64_t>{2, 3}));
}

}  // namespace
}  // namespace roundhouse
