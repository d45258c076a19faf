// SPDX-License-Identifier: Apache-2.0
// What a plan says of a card, and what a run does for want of room there. The cards are made up.
#include "host/run/card.h"

#include <gtest/gtest.h>

#include <functional>
#include <memory>

#include "host/base/cpu.h"
#include "host/base/error.h"
#include "host/plan/mix_plan.h"

namespace roundhouse {
namespace {

// A plan of blocks of Llama-3.1-8B's shape, int4.
Plan of_llama(int64_t samples = 128) {
  Plan plan;
  plan.recipe.calibration.data = {{"texts.jsonl", {}}};
  plan.recipe.calibration.samples = samples;
  plan.recipe.calibration.seqlen = 2048;
  plan.recipe.calibration.batch_size = 8;
  plan.recipe.tuning.iters = 200;
  plan.blocks = 32;
  constexpr int64_t kHidden = 4096, kHeads = 1024, kMlp = 14336;
  const std::pair<int64_t, int64_t> shapes[] = {{kHidden, kHidden}, {kHeads, kHidden}, {kHeads, kHidden},
                                                {kHidden, kHidden}, {kMlp, kHidden},   {kMlp, kHidden},
                                                {kHidden, kMlp}};
  for (int64_t block = 0; block < plan.blocks; ++block)
    for (const auto& [out, in] : shapes) {
      LayerPlan& layer = plan.layers.emplace_back();
      layer.block = block;
      layer.info.out_features = out;
      layer.info.in_features = in;
      layer.scheme.weight.emplace().rounding = Rounding::kTuned;
    }
  const uint64_t bytes = computes_in_bfloat16(false) ? 2 : 4;
  plan.activation_bytes = static_cast<uint64_t>(2 * samples * 2048 * kHidden) * bytes;
  return plan;
}

CudaCard h100(uint64_t memory) {
  CudaCard card;
  card.name = "Made-up H100";
  card.major = 9;
  card.memory = memory;
  card.processors = 132;
  card.clock = 1.83e9;
  card.bandwidth = 3.35e12;
  return card;
}

TEST(Card, TimeAndMemoryAreThoseOfTheArithmetic) {
  const CardEstimate estimate = estimate_on(h100(uint64_t{80} << 30), of_llama());
  const double an_iteration = estimate.seconds / 32 / 200;
  EXPECT_GT(an_iteration, 0.038);
  EXPECT_LT(an_iteration, 0.055);
  EXPECT_NEAR(static_cast<double>(estimate.activations), 4.3e9, 0.1e9);
  EXPECT_GT(estimate.work, 4e9);
  EXPECT_LT(estimate.work, 9e9);
  EXPECT_EQ(card_text(h100(uint64_t{80} << 30), of_llama()).find("Made-up H100: about "), 0u);
}

TEST(Card, ActivationsWithoutRoomStayInHostMemory) {
  const Plan small = of_llama(), large = of_llama(4096);
  const CudaCard card = h100(80'000'000'000);
  EXPECT_EQ(fitted_memory(card, small), std::nullopt);
  ASSERT_TRUE(fitted_memory(card, large));
  EXPECT_NE(card_text(card, large).find("of activations in host memory, for want of room"), std::string::npos);
  Plan limited = large;
  limited.recipe.memory = 1000;
  EXPECT_EQ(fitted_memory(card, limited), 1000) << "as the recipe says";
}

std::string said_by(const std::function<void()>& call) {
  testing::internal::CaptureStderr();
  try {
    call();
  } catch (const Error& e) {
    return testing::internal::GetCapturedStderr() + e.what();
  }
  return testing::internal::GetCapturedStderr();
}

// An estimate is no reason to refuse a run.
TEST(Card, OnlyABlockWhoseWeightsAreMoreThanTheCardsMemoryIsRefused) {
  const Plan plan = of_llama();
  std::optional<int64_t> memory;
  const std::string warning = said_by([&] { memory = fitted_memory(h100(2'000'000'000), plan); });
  EXPECT_NE(warning.find("a block of this model needs about "), std::string::npos) << warning;
  EXPECT_NE(warning.find("Made-up H100 has 2.00 GB: if memory runs out, choose a larger card or device: cpu, or lower "
                         "calibration.seqlen"),
            std::string::npos)
      << warning;
  ASSERT_TRUE(memory) << "the activations stay in host memory";
  const std::string error = said_by([&] { fitted_memory(h100(400'000'000), plan); });  // 218 M weights of bfloat16
  EXPECT_NE(
      error.find("one block of this model has 436.2 MB of weights, and Made-up H100 has 400.0 MB: choose a larger "),
      std::string::npos)
      << error;
  EXPECT_EQ(said_by([&] { fitted_memory(h100(80'000'000'000), plan); }), "");
}

// Forward, step and the best tunables are those of every expert, whichever of them a token meets.
TEST(Card, ARoundingStepCostsTheWeightsOfAllExperts) {
  const auto seconds = [](int64_t experts, int64_t seqlen) {
    Plan plan = of_llama(1);
    plan.recipe.calibration.seqlen = seqlen;
    plan.recipe.calibration.batch_size = 1;
    plan.experts = experts;
    plan.experts_used = 1;
    if (experts > 0)
      for (LayerPlan& layer : plan.layers) layer.info.stack.emplace();
    return estimate_on(h100(uint64_t{80} << 30), plan).seconds;
  };
  EXPECT_NEAR(seconds(64, 1) / seconds(0, 1), 1, 0.02) << "nearly all of it are these";
  const double products = seconds(0, 16384) - seconds(0, 1), of_experts = seconds(64, 16384) - seconds(64, 1);
  EXPECT_NEAR(of_experts * 64 / products, 1, 0.02);
}

// It keeps the activations between all blocks.
TEST(Card, TheMeasurementOfAMixKeepsInHostMemoryWhatHasNoRoom) {
  Plan plan = of_llama();
  MixPlan mix;
  mix.activation_bytes = plan.activation_bytes / 2 / 128 * 8 * 33;  // of one sample; 8 samples, 33 places
  plan.mix = std::make_shared<const MixPlan>(mix);
  const CardEstimate estimate = estimate_measuring(plan);
  EXPECT_NEAR(static_cast<double>(estimate.activations), 2.0 * 8 * 33 * 2048 * 4096, 1e6);
  EXPECT_GT(estimate.work, 2e9);
  EXPECT_LT(estimate.work, 6e9);
  const uint64_t all = estimate.work + estimate.activations;
  EXPECT_EQ(fitted_memory_of_measuring(h100(all), plan), std::nullopt);
  EXPECT_TRUE(fitted_memory_of_measuring(h100(all - 1), plan));
  plan.recipe.memory = 1000;
  EXPECT_EQ(fitted_memory_of_measuring(h100(all - 1), plan), 1000) << "as the recipe says";
}

TEST(Card, SaysNothingWhereNothingIsKnown) {
  EXPECT_EQ(card_text(CudaCard(), of_llama()), "");
  EXPECT_EQ(fitted_memory(CudaCard(), of_llama()), std::nullopt);
  CudaCard slow = h100(uint64_t{80} << 30);
  slow.clock = 0;
  EXPECT_EQ(estimate_on(slow, of_llama()).seconds, 0);
}

}  // namespace
}  // namespace roundhouse
