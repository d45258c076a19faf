// SPDX-License-Identifier: Apache-2.0
// Quantized inputs: in tuning, in the chain of quantized blocks, and their calibrated ranges.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <cstring>

#include "host/base/cpu.h"
#include "host/model/decoder.h"
#include "host/tuning/activation_quantizer.h"
#include "host/tuning/rounded_source.h"
#include "tests/tuning/quantize_fixture.h"

namespace roundhouse {
namespace {

const std::string kWeights = "scheme: {data_type: int, bits: 8, group_size: 32, ";
const std::string kStatic = kWeights + "act_data_type: grid, act_bits: 8, act_group_size: 0, act_dynamic: false}\n";

class ActivationTest : public QuantizeTest {
 protected:
  // As the run computes.
  static at::ScalarType compute_type() { return computes_in_bfloat16(false) ? at::kBFloat16 : at::kFloat; }

  static at::Tensor ids(const Problem& p) {
    at::Tensor ids = at::empty({5, 512}, at::kLong);
    for (int64_t i = 0; i < ids.numel(); ++i)
      ids.mutable_data_ptr<int64_t>()[i] = p.samples[static_cast<size_t>(i / 512)][static_cast<size_t>(i % 512)];
    return ids;
  }

  // The block's output, unit by unit: two samples of 512 tokens.
  static at::Tensor forward(const Decoder& decoder, const Block& block, const at::Tensor& hidden) {
    const PositionData positions = decoder.positions(512);
    return at::cat({block.forward(hidden.slice(0, 0, 2), positions), block.forward(hidden.slice(0, 2, 4), positions),
                    block.forward(hidden.slice(0, 4, 5), positions)});
  }

  // The largest input of each linear of a block.
  static void add_maxima(const Decoder& decoder, int64_t index, const at::Tensor& hidden,
                         std::map<std::string, float>& maxima) {
    Block block = decoder.block(index);
    block.set_input_hook([&](const LinearInfo& linear, const at::Tensor& input) {
      maxima[linear.name] = std::max(maxima[linear.name], input.abs().max().item<float>());
      return input;
    });
    forward(decoder, block, hidden);
  }

  static void expect_ranges(const Recording& got, const std::map<std::string, float>& maxima) {
    ASSERT_EQ(got.seen.ranges.size(), 14u);
    ASSERT_EQ(maxima.size(), 14u);
    for (const auto& [layer, largest] : maxima) {
      EXPECT_EQ(got.seen.ranges.at(layer).as<float>()[0], largest) << layer;
      ASSERT_EQ(got.layers.at(layer).activation_tensors.size(), 1u) << layer;
      EXPECT_EQ(got.layers.at(layer).activation_tensors[0].as<float>()[0], largest / 127) << layer;
    }
  }
};

TEST_F(ActivationTest, RangesAreThoseOfTheOriginalChain) {
  Problem p = problem(kUntied, kStatic + "tuning: {iters: 0, quantized_input: false}\n");
  p.draw_samples(5, 512);
  const Recording got = p.quantized();
  const at::NoGradGuard no_grad;
  const Decoder decoder(p.architecture, p.source, compute_type(), at::kCPU);
  std::map<std::string, float> maxima;
  at::Tensor hidden = decoder.embed(ids(p));
  for (int64_t block = 0; block < 2; ++block) {
    add_maxima(decoder, block, hidden, maxima);
    hidden = forward(decoder, decoder.block(block), hidden);
  }
  expect_ranges(got, maxima);
}

TEST_F(ActivationTest, RangesAreThoseOfTheQuantizedChain) {
  Problem p = problem(kUntied, kStatic + "tuning: {iters: 0}\n");
  p.draw_samples(5, 512);
  const Recording got = p.quantized();
  const at::NoGradGuard no_grad;
  const Decoder original(p.architecture, p.source, compute_type(), at::kCPU);
  const auto rounded = rounded_source(p.plan, p.source, p.catalogue, {}, "cpu");
  const Decoder quantized(p.architecture, *rounded, compute_type(), at::kCPU);
  std::vector<const LayerPlan*> layers;
  for (const LayerPlan& layer : p.plan.layers) layers.push_back(&layer);
  Activations activations(p.catalogue, layers, compute_type(), at::kCPU);
  activations.prepare(got.seen.ranges);

  std::map<std::string, float> maxima;
  at::Tensor hidden = original.embed(ids(p));
  for (int64_t index = 0; index < 2; ++index) {
    add_maxima(original, index, hidden, maxima);
    Block block = quantized.block(index);
    block.set_input_hook([&](const LinearInfo& l, const at::Tensor& x) { return activations.forward(l, x); });
    hidden = forward(quantized, block, hidden);
  }
  expect_ranges(got, maxima);
}

TEST_F(ActivationTest, TuningSeesQuantizedInputs) {
  const auto first_loss = [&](const std::string& activation) {
    const Recording got = quantize_model(kUntied, kWeights + activation + "}\ntuning: {iters: 3}\n");
    EXPECT_LE(got.blocks[1].best_loss, got.blocks[1].first_loss);
    return got.blocks[0].first_loss;
  };
  const double none = first_loss("act_bits: 16");
  const double eight = first_loss("act_data_type: grid, act_bits: 8, act_group_size: -1");
  const double three = first_loss("act_data_type: grid, act_bits: 3, act_group_size: -1");
  EXPECT_LT(none, eight);
  EXPECT_LT(10 * eight, three);
}

TEST_F(ActivationTest, LayersAsOtherSchemesSay) {
  const Recording got = quantize_model(
      kUntied, kStatic +
                   "layers:\n  - {match: \"re:.*k_proj\", act_bits: 4}\n  - {match: \"re:.*up_proj\", act_bits: 16}\n" +
                   "  - {match: \"re:.*down_proj\", act_dynamic: true}\n  - match: lm_head\ntuning: {iters: 1}\n");
  const auto scale = [&](const std::string& layer) {
    return got.layers.at("model.layers.1." + layer).activation_tensors.at(0).as<float>()[0];
  };
  EXPECT_EQ(scale("self_attn.q_proj"), scale("self_attn.v_proj"));
  EXPECT_FLOAT_EQ(scale("self_attn.q_proj") * 127, scale("self_attn.k_proj") * 7);
  EXPECT_TRUE(got.layers.at("model.layers.1.mlp.up_proj").activation_tensors.empty());
  EXPECT_TRUE(got.layers.at("model.layers.1.mlp.down_proj").activation_tensors.empty()) << "a dynamic range has none";
  EXPECT_GT(got.layers.at("lm_head").activation_tensors.at(0).as<float>()[0], 0)
      << "the head's inputs are calibrated too";
}

TEST_F(ActivationTest, BitsDoNotDependOnTheThreads) {
  Recording runs[2];
  for (int i = 0; i < 2; ++i) {
    set_threads(i + 1);
    runs[i] = quantize_model(kUntied, kStatic + "tuning: {iters: 3}\n");
  }
  set_threads(0);
  for (const auto& [name, layer] : runs[0].layers) {
    const Recording::Layer& other = runs[1].layers.at(name);
    for (size_t t = 0; t < layer.tensors.size(); ++t)
      EXPECT_EQ(std::memcmp(layer.tensors[t].data(), other.tensors[t].data(), layer.tensors[t].bytes()), 0) << name;
    EXPECT_EQ(layer.activation_tensors[0].as<float>()[0], other.activation_tensors[0].as<float>()[0]) << name;
  }
}

// Two linears, the second's input quantized: the gradient of the first's weight goes through the quantizer.
struct TwoLinears {
  explicit TwoLinears(const std::string& dtype) {
    plan.info = {"second", "", "", 4, 6, false};
    TensorScheme& scheme = plan.scheme.activation.emplace();
    scheme.dtype = dtype;
    activations = std::make_unique<Activations>(catalogue, std::vector<const LayerPlan*>{&plan}, at::kFloat, at::kCPU);
    activations->prepare({});
    at::manual_seed(1);
    first = at::randn({6, 3});
    second = at::randn({4, 6});
    x = at::randn({2, 5, 3});
  }
  at::Tensor output(const at::Tensor& weight) {
    return at::linear(activations->forward(plan.info, at::linear(x, weight)), second);
  }
  at::Tensor gradient() {
    const at::AutoGradMode with_grad(true);
    const at::Tensor leaf = first.clone().set_requires_grad(true);
    return torch::autograd::grad({output(leaf).square().sum()}, {leaf})[0];
  }

  Catalogue& catalogue = Problem::discover();
  LayerPlan plan;
  std::unique_ptr<Activations> activations;
  at::Tensor first, second, x;
};

TEST(ActivationGradient, IsThePlugins) {
  TwoLinears block("wave");
  const at::Tensor gradient = block.gradient();
  const double largest = gradient.abs().max().item<double>();
  for (int64_t i = 0; i < gradient.numel(); ++i) {
    at::Tensor step = at::zeros_like(block.first);
    step.view(-1)[i] = 1e-2;
    const double up = block.output(block.first + step).square().sum().item<double>();
    const double down = block.output(block.first - step).square().sum().item<double>();
    EXPECT_NEAR((up - down) / 2e-2, gradient.view(-1)[i].item<double>(), 1e-2 * largest) << i;
  }
}

TEST(ActivationGradient, GoesStraightThroughWithoutThePlugins) {
  TwoLinears block("straight");
  const at::Tensor gradient = block.gradient();
  const at::Tensor upstream = 2 * at::matmul(block.output(block.first), block.second);  // of the second's input
  const at::Tensor expected = at::einsum("bti,btj->ij", {upstream, block.x});
  EXPECT_TRUE(at::allclose(gradient, expected, 1e-4, 1e-4));
}

}  // namespace
}  // namespace roundhouse
