// SPDX-License-Identifier: Apache-2.0
// What a plan says of a card, and what a run does for want of room there. The cards are made up.
#include "host/run/card.h"

#include <gtest/gtest.h>

#include "host/base/cpu.h"
#include "host/base/error.h"

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
  const CudaCard card = h100(80'000'000'000), tiny = h100(2'000'000'000);
  EXPECT_EQ(fitted_memory(card, small), std::nullopt);
  ASSERT_TRUE(fitted_memory(card, large));
  EXPECT_NE(card_text(card, large).find("of activations in host memory, for want of room"), std::string::npos);
  Plan limited = large;
  limited.recipe.memory = 1000;
  EXPECT_EQ(fitted_memory(card, limited), 1000) << "as the recipe says";
  try {
    fitted_memory(tiny, small);
    ADD_FAILURE() << "no error";
  } catch (const Error& e) {
    const std::string text = e.what();
    EXPECT_NE(text.find("a block of this model needs about "), std::string::npos) << text;
    EXPECT_NE(text.find("Made-up H100 has 2.00 GB: choose a larger card or device: cpu"), std::string::npos) << text;
  }
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
