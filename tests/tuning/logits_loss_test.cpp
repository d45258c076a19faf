// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/logits_loss.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "tests/tuning/quantize_fixture.h"

namespace roundhouse {
namespace {

using LogitsLossTest = QuantizeTest;

TEST_F(LogitsLossTest, IsTheDivergenceAtEachStridethPositionAndItsGradient) {
  Problem p = problem(kUntied, "scheme: W4A16\n");
  const Decoder decoder(p.architecture, p.source, at::kFloat, at::kCPU);
  at::manual_seed(3);
  const int64_t size = p.architecture.hidden_size();
  const at::Tensor target = at::randn({3, 7, size}), prediction = target + 0.3 * at::randn({3, 7, size});
  at::Tensor mask = at::ones({3, 7}, at::kByte);
  mask[1].slice(0, 4) = 0;
  constexpr double kScale = 0.5;
  for (const int64_t stride : {1, 3})
    for (const int64_t first : {int64_t{0}, stride - 1}) {
      SCOPED_TRACE(stride);
      const MaskedLoss loss = divergence_of_logits(decoder, prediction, target, mask, kScale, first, stride);
      at::Tensor chosen = at::zeros_like(mask);
      chosen.slice(1, first, 7, stride) = 1;
      at::Tensor x = prediction.clone().set_requires_grad(true);
      const at::AutoGradMode with_grad(true);
      const at::Tensor log_p = at::log_softmax(decoder.head(target), -1), log_q = at::log_softmax(decoder.head(x), -1);
      const at::Tensor sum = ((log_p.exp() * (log_p - log_q)).sum(-1) * (mask * chosen)).sum();
      sum.backward();
      EXPECT_NEAR(loss.squared_error.item<double>(), static_cast<double>(stride) * sum.item<double>(),
                  1e-4 * sum.item<double>());
      EXPECT_LT((loss.gradient - kScale * x.grad()).abs().max().item<double>(), 1e-8);
      EXPECT_GT(loss.gradient.abs().max().item<double>(), 1e-5);
    }
}

TEST_F(LogitsLossTest, TheHeadCostsAsMuchAsTwoBlocksAtMost) {
  EXPECT_EQ(logits_stride(100, 100), 1);
  EXPECT_EQ(logits_stride(100, 201), 2);
  EXPECT_EQ(logits_stride(100, 1000), 5);
  EXPECT_EQ(logits_stride(100, 1e6), 8);
  EXPECT_EQ(logits_stride(0, 1e6), 1);
}

// The divergence of the whole model's logits falls, where only the last block is tuned against them.
TEST_F(LogitsLossTest, TunesTheLastBlockAgainstTheLogits) {
  const auto tuned = [&](const std::string& last) {
    return problem(kUntied,
                   "scheme: {data_type: int, bits: 2, group_size: 32}\ntuning: {iters: 30, lr: 0.02, last_block: " +
                       last + "}\n")
        .quantized();
  };
  const Recording output = tuned("output"), logits = tuned("logits");
  ASSERT_EQ(output.blocks.size(), logits.blocks.size());
  EXPECT_EQ(output.blocks[0].best_loss, logits.blocks[0].best_loss) << "of the others nothing changes";
  EXPECT_NE(output.blocks.back().best_loss, logits.blocks.back().best_loss);
  EXPECT_LT(logits.blocks.back().best_loss, logits.blocks.back().first_loss);
}

// Of the last block v_proj alone is tuned, so that the head is large beside it: a stride of 8 positions.
TEST_F(LogitsLossTest, SamplesShorterThanTheStrideAreComparedToo) {
  Problem p = problem(kTied,
                      "scheme: {data_type: int, bits: 4, group_size: 32}\ntuning: {iters: 9, algorithm: signround2}\n"
                      "layers: [{match: \"re:.*([qko]|gate|up|down)_proj\", scheme: none}]\n");
  p.draw_samples(8, 2);
  EXPECT_GT(p.quantized().blocks.back().first_loss, 0);
}

}  // namespace
}  // namespace roundhouse
