// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/block_loop.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "host/base/error.h"
#include "host/model/torch_tensor.h"
#include "host/tuning/loss.h"
#include "tests/dtypes/built_plugins.h"

namespace roundhouse {
namespace {

constexpr int64_t kSamples = 8, kTokens = 16, kFeatures = 64, kOutputs = 32, kIterations = 8;

// A block of one linear layer, in float32.
struct OneLayer {
  explicit OneLayer(int64_t samples = kSamples, int64_t tokens = kTokens) {
    at::manual_seed(3);
    weight = at::randn({kOutputs, kFeatures});
    // Of rank 8: correlated features are what rounding to the nearest does not know of.
    inputs = at::randn({samples, tokens, 8}).matmul(at::randn({8, kFeatures}));
    targets = inputs.matmul(weight.t());
    mask = at::ones({samples, tokens}, at::kByte);
    mask.slice(1, tokens - 1).zero_();
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
    tuning.algorithm = algorithm;
    tuning.iters = iterations;
    tuning.lr = tuning.minmax_lr = 0.05;
    tuning.gradient_accumulation = accumulation;
    std::vector<std::unique_ptr<LayerQuantizer>> layers;
    layers.push_back(std::make_unique<LayerQuantizer>(catalogue, plan, from_torch(weight), at::kCPU));
    LayerQuantizer& layer = *layers[0];
    layer.prepare({});
    layer.make_leaf(at::kFloat, at::kCPU);
    PythonRandom random(42);
    HiddenStatesMemory memory;
    const auto store = [&](const at::Tensor& values) {
      auto store = std::make_unique<HiddenStates>(values.sizes(), at::kFloat, at::kCPU, memory);
      store->write(0, values);
      return store;
    };
    Result result;
    forwards.clear();
    result.loss = run_block_loop({*store(inputs), *store(targets), mask,
                                  [&](const at::Tensor& hidden) {
                                    forwards.push_back(hidden.size(0));
                                    return hidden.matmul(layer.leaf().t());
                                  },
                                  layers, random,
                                  [&](int64_t iteration, double loss) {
                                    EXPECT_EQ(iteration, static_cast<int64_t>(result.losses.size()));
                                    result.losses.push_back(loss);
                                  },
                                  ahead},
                                 tuning, batch_size);
    result.weight = layer.leaf().clone();
    return result;
  }

  std::vector<int64_t> forwards;  // samples of each forward pass of the last tuning
  bool ahead = false;
  Tuning::Algorithm algorithm = Tuning::Algorithm::kSignround;
  int64_t iterations = kIterations;
  // Once: a scan starts a process for each plugin.
  static Catalogue& discovered() {
    static Catalogue catalogue = discover_built_plugins();
    return catalogue;
  }
  Catalogue& catalogue = discovered();
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

TEST(BlockLoop, Signround2KeepsTheTunablesOfTheBestEpoch) {
  OneLayer block;
  block.algorithm = Tuning::Algorithm::kSignround2;
  for (const int64_t iterations : {1, 3, 4, 12}) {
    block.iterations = iterations;
    const auto result = block.tune(2, 1);  // an epoch is four of them
    const int64_t window = std::min<int64_t>(4, iterations);
    const at::Tensor losses = at::tensor(result.losses), means = losses.unfold(0, window, 1).mean(1);
    EXPECT_EQ(result.loss.first, result.losses.front());
    EXPECT_EQ(result.loss.best, means.min().item<double>());
    EXPECT_EQ(result.loss.best_iteration, means.argmin().item<int64_t>() + window - 1);
  }
}

TEST(BlockLoop, TheRatesOfSignround2FallAlongACosine) {
  OneLayer block;
  const auto travel = [&](Tuning::Algorithm algorithm, int64_t iterations) {
    block.algorithm = algorithm;
    block.iterations = iterations;
    return block.tune(kSamples, 1).losses;
  };
  const auto line = travel(Tuning::Algorithm::kSignround, 3), cosine = travel(Tuning::Algorithm::kSignround2, 3);
  EXPECT_EQ(line[0], cosine[0]);
  EXPECT_EQ(line[1], cosine[1]);  // both after a first step of the whole rate
  EXPECT_NE(line[2], cosine[2]);
}

// Fifteen samples of 512 tokens are seven units of two, and one of one.
TEST(BlockLoop, HoweverTheSamplesOfAnIterationAreWrittenAsBatchesTheBitsAreTheSame) {
  OneLayer block(15, 512);
  const auto whole = block.tune(15, 1);
  const std::vector<int64_t> units = {2, 2, 2, 2, 2, 2, 2, 1};
  for (size_t i = 0; i < block.forwards.size(); ++i) ASSERT_EQ(block.forwards[i], units[i % units.size()]) << i;
  for (const auto& [batch, accumulation] : {std::pair{1, 15}, {3, 5}, {5, 3}, {64, 1}}) {
    const auto parts = block.tune(batch, accumulation);
    EXPECT_EQ(parts.losses, whole.losses) << accumulation << " x " << batch;
    EXPECT_TRUE(at::equal(parts.weight, whole.weight)) << accumulation << " x " << batch;
  }
}

// One sample is so much larger that each order of the sum rounds in its own way.
TEST(BlockLoop, UnitsAreAddedByTheTree) {
  OneLayer block(5, 1024);
  PythonRandom random(42);
  const std::vector<int64_t> order = BatchSampler(5, 5, random).next();
  for (at::Tensor& t : {std::ref(block.inputs), std::ref(block.targets)}) t[order[1]] *= 1e6;
  block.iterations = 1;
  const auto got = block.tune(5, 1);
  const at::Tensor weight = got.weight;  // that of the only iteration, before its step
  std::vector<double> losses;
  for (const int64_t sample : order) {
    const at::Tensor prediction = block.inputs.slice(0, sample, sample + 1).matmul(weight.t());
    losses.push_back(masked_squared_error(prediction, block.targets.slice(0, sample, sample + 1),
                                          block.mask.slice(0, sample, sample + 1), 1)
                         .squared_error.item<double>());
  }
  const double sum = ((losses[0] + losses[1]) + (losses[2] + losses[3])) + losses[4];
  EXPECT_EQ(got.losses[0], sum / (5 * 1023 * kOutputs));
}

// As a GPU is given its work, on the CPU.
TEST(BlockLoop, AheadOfTheDeviceTheResultIsTheSame) {
  OneLayer block;
  for (const auto& [iterations, algorithm] : {std::pair{1, Tuning::Algorithm::kSignround},
                                              {9, Tuning::Algorithm::kSignround2},
                                              {10, Tuning::Algorithm::kSignround},
                                              {25, Tuning::Algorithm::kSignround2}}) {
    block.iterations = iterations;
    block.algorithm = algorithm;
    block.ahead = false;
    const auto expected = block.tune(4, 1);
    block.ahead = true;
    const auto got = block.tune(4, 1);
    EXPECT_EQ(got.losses, expected.losses);
    EXPECT_EQ(got.loss.first, expected.loss.first);
    EXPECT_EQ(got.loss.best, expected.loss.best);
    EXPECT_EQ(got.loss.best_iteration, expected.loss.best_iteration);
    EXPECT_TRUE(at::equal(got.weight, expected.weight));
  }
  block.inputs[0][0][0] = INFINITY;
  EXPECT_THROW(block.tune(kSamples, 1), Error);
}

TEST(BlockLoop, ALossThatIsNotFiniteIsAnError) {
  OneLayer block;
  block.inputs[0][0][0] = INFINITY;
  EXPECT_THROW(block.tune(kSamples, 1), Error);
}

}  // namespace
}  // namespace roundhouse
