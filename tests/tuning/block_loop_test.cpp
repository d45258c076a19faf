#include "host/tuning/block_loop.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "host/base/error.h"
#include "host/model/torch_tensor.h"
#include "tests/golden/built_plugins.h"

namespace roundhouse {
namespace {

constexpr int64_t kSamples = 8, kTokens = 16, kFeatures = 64, kOutputs = 32, kIterations = 8;

// A block of one linear layer, in float32.
struct OneLayer {
  OneLayer() {
    at::manual_seed(3);
    weight = at::randn({kOutputs, kFeatures});
    // Of rank 8: correlated features are what rounding to the nearest does not know of.
    inputs = at::randn({kSamples, kTokens, 8}).matmul(at::randn({8, kFeatures}));
    targets = inputs.matmul(weight.t());
    mask = at::ones({kSamples, kTokens}, at::kByte);
    mask.slice(1, kTokens - 1).zero_();
    plan.info = {"layer", "", "", kOutputs, kFeatures, false};
    TensorScheme& scheme = plan.scheme.weight.emplace();
    scheme.dtype = "int";
    scheme.bits = 2;
    scheme.group_cols = 32;
    scheme.rounding = Rounding::kTuned;
  }

  struct Result {
    BlockLoss loss;
    std::vector<double> losses;  // of each iteration
    at::Tensor weight;           // quantized, of the best iteration
  };

  Result tune(int64_t batch_size, int64_t accumulation) {
    Tuning tuning;
    tuning.iters = kIterations;
    tuning.lr = 0.05;
    tuning.gradient_accumulation = accumulation;
    std::vector<std::unique_ptr<LayerQuantizer>> layers;
    layers.push_back(std::make_unique<LayerQuantizer>(catalogue, plan, from_torch(weight), at::kCPU));
    LayerQuantizer& layer = *layers[0];
    layer.prepare({});
    layer.make_leaf(at::kFloat, at::kCPU);
    PythonRandom random(42);
    ActivationMemory memory;
    const auto store = [&](const at::Tensor& values) {
      auto store = std::make_unique<ActivationStore>(values.sizes(), at::kFloat, at::kCPU, memory);
      store->write(0, values);
      return store;
    };
    Result result;
    result.loss = run_block_loop(
        {*store(inputs), *store(targets), mask, [&](const at::Tensor& hidden) { return hidden.matmul(layer.leaf().t()); }, layers,
         random, [&](int64_t, double loss) { result.losses.push_back(loss); }},
        tuning, batch_size);
    result.weight = layer.leaf().clone();
    return result;
  }

  Catalogue catalogue = discover_built_plugins();
  LayerPlan plan;
  at::Tensor weight, inputs, targets, mask;
};

TEST(BlockLoop, KeepsTheTunablesOfTheBestIteration) {
  OneLayer block;
  const auto result = block.tune(kSamples, 1);
  ASSERT_EQ(result.losses.size(), static_cast<size_t>(kIterations));
  EXPECT_EQ(result.losses.front(), result.loss.first);
  EXPECT_EQ(*std::min_element(result.losses.begin(), result.losses.end()), result.loss.best);
  EXPECT_EQ(result.losses[result.loss.best_iteration], result.loss.best);
  EXPECT_LT(result.loss.best, result.loss.first) << "tuning gains nothing";
  // The leaf must hold the weight that had this loss.
  const at::Tensor error = (block.inputs.matmul(result.weight.t()) - block.targets) * block.mask.unsqueeze(-1);
  const double scored = block.mask.sum().item<double>() * kOutputs;
  EXPECT_NEAR(error.square().sum().item<double>() / scored, result.loss.best, 1e-5 * result.loss.best);
}

TEST(BlockLoop, MicroBatchesGiveTheSameSteps) {
  OneLayer block;
  const auto whole = block.tune(kSamples, 1);
  for (const auto& [batch, accumulation] : {std::pair{4, 2}, {2, 4}, {3, 3}}) {
    const auto parts = block.tune(batch, accumulation);
    for (size_t i = 0; i < whole.losses.size(); ++i)
      EXPECT_NEAR(parts.losses[i], whole.losses[i], 1e-3 * whole.losses[i])
          << accumulation << " x " << batch << ", iteration " << i;
    // Sums in another order: the sign of a gradient near 0 may differ, and with it a weight.
    EXPECT_LT((parts.weight != whole.weight).sum().item<int64_t>(), kOutputs * kFeatures / 100);
  }
}

TEST(BlockLoop, ALossThatIsNotFiniteIsAnError) {
  OneLayer block;
  block.inputs[0][0][0] = INFINITY;
  EXPECT_THROW(block.tune(kSamples, 1), Error);
}

}  // namespace
}  // namespace roundhouse
