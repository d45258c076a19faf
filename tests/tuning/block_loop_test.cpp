#include "host/tuning/block_loop.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "host/base/error.h"
#include "host/model/torch_tensor.h"
#include "tests/dtypes/built_plugins.h"

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
    MicroBatch micro_batch(batch_size);
    return tune(batch_size, accumulation, micro_batch);
  }

  Result tune(int64_t batch_size, int64_t accumulation, MicroBatch& micro_batch) {
    Tuning tuning;
    tuning.iters = iterations;
    tuning.lr = 0.05;
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
    int64_t calls = 0;
    result.loss =
        run_block_loop({*store(inputs), *store(targets), mask,
                        [&](const at::Tensor& hidden) {
                          TORCH_CHECK_WITH(OutOfMemoryError, hidden.size(0) <= room && ++calls != full_at_call,
                                           "no memory. Tried to. And more");
                          return hidden.matmul(layer.leaf().t());
                        },
                        layers, random, micro_batch,
                        [&](int64_t iteration, double loss) {
                          EXPECT_EQ(iteration, static_cast<int64_t>(result.losses.size()));
                          result.losses.push_back(loss);
                        },
                        0, ahead},
                       tuning, batch_size);
    result.weight = layer.leaf().clone();
    return result;
  }

  int64_t room = kSamples;  // samples that fit on the device
  int64_t full_at_call = -1;
  bool ahead = false;
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

TEST(BlockLoop, SmallerMicroBatchesWhenTheDeviceIsFull) {
  OneLayer block;
  const auto expected = block.tune(2, 4);
  block.room = 2;
  MicroBatch micro_batch(4);
  testing::internal::CaptureStderr();
  const auto got = block.tune(4, 2, micro_batch);
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_EQ(micro_batch.samples(), 2) << "for the rest of the run";
  EXPECT_EQ(got.losses, expected.losses);
  EXPECT_TRUE(at::equal(got.weight, expected.weight));
  EXPECT_NE(
      said.find("block 0, iteration 0: out of memory with 4 samples at a time; from here on 2: no memory. Tried to"),
      std::string::npos)
      << said;
  EXPECT_EQ(said.find("iteration 1"), std::string::npos) << said;
}

TEST(BlockLoop, AFullDeviceInTheMiddleOfAnIteration) {
  OneLayer block;
  const auto expected = block.tune(4, 2);
  block.full_at_call = 6;  // the second micro-batch of the third iteration
  MicroBatch micro_batch(4);
  const auto got = block.tune(4, 2, micro_batch);
  EXPECT_EQ(micro_batch.samples(), 2);
  ASSERT_EQ(got.losses.size(), expected.losses.size());
  for (size_t i = 0; i < got.losses.size(); ++i)
    EXPECT_NEAR(got.losses[i], expected.losses[i], i < 2 ? 0 : 1e-3 * expected.losses[i]) << i;
}

TEST(BlockLoop, OneSampleThatDoesNotFitIsAnErrorThatSaysWhatToChange) {
  OneLayer block;
  block.room = 0;
  try {
    block.tune(4, 2);
    FAIL() << "no error";
  } catch (const Error& e) {
    const std::string text = e.what();
    for (const char* part : {"no memory", "batch_size", "seqlen", "memory", "device"})
      EXPECT_NE(text.find(part), std::string::npos) << text;
  }
}

// As a GPU is given its work, on the CPU.
TEST(BlockLoop, AheadOfTheDeviceTheResultIsTheSame) {
  OneLayer block;
  for (int64_t iterations : {1, 9, 10, 25}) {
    block.iterations = iterations;
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
