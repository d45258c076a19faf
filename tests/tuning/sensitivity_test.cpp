// SPDX-License-Identifier: Apache-2.0
// The scores of a mix's schemes against autograd over the whole model at once.
#include "host/tuning/sensitivity.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>

#include "host/base/cpu.h"
#include "host/base/random.h"
#include "host/model/decoder.h"
#include "host/model/torch_tensor.h"
#include "host/text/calibration.h"
#include "host/tuning/layer_quantizer.h"
#include "tests/tuning/quantize_fixture.h"

namespace roundhouse {
namespace {

// The token that a number in [0, 1) draws from probabilities.
int64_t drawn(const at::Tensor& probabilities, double u) {
  const at::Tensor below = probabilities.to(at::kDouble).cumsum(0).le(u).sum();
  return std::min(below.item<int64_t>(), probabilities.size(0) - 1);
}

class SensitivityTest : public QuantizeTest {
 protected:
  void check(const fs::path& model) const;
  // Of four blocks, with inputs of their own; the last two have the keys and values of the first two.
  fs::path passing_on() const;
};

fs::path SensitivityTest::passing_on() const {
  const fs::path folder = folder_.path() / "model";
  fs::create_directories(folder);
  std::ofstream(folder / "config.json")
      << R"({"model_type": "gemma4_text", "vocab_size": 64, "vocab_size_per_layer_input": 64, "hidden_size": 32,
             "hidden_size_per_layer_input": 8, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4,
             "num_key_value_heads": 2, "head_dim": 8, "global_head_dim": 16, "sliding_window": 5,
             "num_kv_shared_layers": 2, "layer_types": ["sliding_attention", "full_attention", "sliding_attention",
             "full_attention"]})";
  const Architecture architecture = Architecture::load(folder, {Problem::configs() / "architectures"});
  std::map<std::string, std::vector<int64_t>> shapes{{"model.embed_tokens.weight", {64, 32}},
                                                     {"model.embed_tokens_per_layer.weight", {64, 32}},
                                                     {"model.per_layer_model_projection.weight", {32, 32}},
                                                     {"model.per_layer_projection_norm.weight", {8}},
                                                     {"model.norm.weight", {32}}};
  for (int64_t i = 0; i < architecture.blocks(); ++i) {
    for (const LinearInfo& linear : architecture.block_linears(i))
      shapes[linear.name + ".weight"] = {linear.out_features, linear.in_features};
    for (const std::string& name : architecture.block_tensors(i)) {
      const bool of_head = name.ends_with("q_norm.weight") || name.ends_with("k_norm.weight");
      shapes.try_emplace(name, std::vector<int64_t>{name.ends_with("scalar") ? 1 : !of_head ? 32 : i % 2 ? 16 : 8});
    }
  }
  at::manual_seed(3);
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const auto& [name, shape] : shapes) {
    const at::Tensor noise = at::randn(shape);
    tensors.emplace_back(name, from_torch(shape.size() > 1 ? noise * std::pow(shape[1], -0.5) : 1 + 0.2 * noise));
  }
  write_safetensors_file(folder / "model.safetensors", tensors);
  return folder;
}

TEST_F(SensitivityTest, IsTheDiagonalOfTheFisherInformationTimesTheSquaredErrors) { check(kUntied); }

TEST_F(SensitivityTest, OfABlockThatPassesKeysOnIsThatOfLaterBlocksToo) {
  if (computes_in_bfloat16(/*on_gpu=*/false)) GTEST_SKIP() << "a rounded probability may draw another token";
  check(passing_on());
}

void SensitivityTest::check(const fs::path& model) const {
  std::ofstream(folder_.path() / "recipe.yaml")
      << "version: 1\nmodel: " << model.string() << "\noutput: " << (folder_.path() / "out").string()
      << "\nformats: [fake]\ncalibration: {data: recipe.yaml, samples: 3, seqlen: 16}\ntuning: {iters: 0, search: "
         "false}\n"
      << "scheme: {mix: [W2A16G32, W4A16G32], target: 3 bits}\n";
  Catalogue& catalogue = Problem::discover();
  const Recipe recipe = load_recipe(folder_.path() / "recipe.yaml", {}, {Problem::configs() / "schemes"});
  const Architecture architecture = Architecture::load(model, {Problem::configs() / "architectures"});
  SafetensorsFolder source(model);
  const Plan plan = plan_recipe(recipe, architecture, source, catalogue);
  std::vector<std::vector<int32_t>> samples(3, std::vector<int32_t>(16));
  std::mt19937 draws(1);
  for (auto& sample : samples)
    for (int32_t& id : sample) id = static_cast<int32_t>(draws() % static_cast<uint32_t>(architecture.vocab_size()));
  const Sensitivities got =
      measure_sensitivities({*plan.mix, architecture, source, catalogue, samples, std::nullopt, "cpu", {}});

  const at::ScalarType type = computes_in_bfloat16(false) ? at::kBFloat16 : at::kFloat;
  const Decoder decoder(architecture, source, type, at::kCPU);
  const PositionData positions = decoder.positions(16);
  std::vector<Block> blocks;
  std::map<std::string, at::Tensor> weights, squares;
  for (int64_t i = 0; i < architecture.blocks(); ++i) blocks.push_back(decoder.block(i));
  for (Block& block : blocks)
    for (LinearSlot& slot : block.linears()) {
      slot.weight = slot.weight.detach().clone().requires_grad_(true);
      weights[slot.info.name] = slot.weight;
      squares[slot.info.name] = at::zeros(slot.weight.sizes());
    }
  PythonRandom random(static_cast<uint64_t>(recipe.calibration.seed));
  int64_t scored = 0;
  for (const auto& sample : samples) {
    at::Tensor ids = at::empty({1, 16}, at::kLong);
    std::copy(sample.begin(), sample.end(), ids.mutable_data_ptr<int64_t>());
    at::Tensor hidden = decoder.embed(ids);
    for (const Block& block : blocks) hidden = block.forward(hidden, positions);
    const at::Tensor logits = decoder.head(hidden[0]).to(at::kFloat), p = logits.detach().softmax(-1);
    const std::vector<uint8_t> mask = loss_mask(sample, std::nullopt);
    at::Tensor loss = at::zeros({});
    for (int64_t row = 0; row < 16; ++row) {
      const int64_t token = drawn(p[row], std::ldexp(static_cast<double>(random.getrandbits(53)), -53));
      if (!mask[static_cast<size_t>(row)]) continue;
      loss = loss - logits[row].log_softmax(-1)[token];
      ++scored;
    }
    loss.backward();
    const at::NoGradGuard no_grad;
    for (auto& [name, weight] : weights) {
      squares[name] += weight.grad().to(at::kFloat).square();
      weight.mutable_grad().reset();
    }
  }
  ASSERT_EQ(got.size(), weights.size());
  for (size_t scheme = 0; scheme < plan.mix->plans.size(); ++scheme)
    for (const LayerPlan& layer : plan.mix->plans[scheme]->layers) {
      if (layer.block < 0) continue;
      const Tensor weight = source.load(layer.info.name + ".weight");
      LayerQuantizer quantizer(catalogue, layer, weight, at::kCPU);
      quantizer.prepare(quantizer.measure());
      quantizer.make_leaf(at::kFloat, at::kCPU);
      quantizer.forward();
      const at::Tensor error = quantizer.leaf() - to_torch(weight).to(at::kFloat);
      const double expected = (squares[layer.info.name] * error.square()).sum(at::kDouble).item<double>() /
                              (2.0 * static_cast<double>(scored));
      // Gradients of bfloat16 are rounded where the blocks meet, too.
      EXPECT_NEAR(got.at(layer.info.name)[scheme], expected, (type == at::kFloat ? 1e-3 : 5e-2) * expected)
          << layer.info.name;
      EXPECT_GT(expected, 0);
    }
}

}  // namespace
}  // namespace roundhouse
