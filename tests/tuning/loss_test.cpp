// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/loss.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "host/base/parallel.h"

namespace roundhouse {
namespace {

struct Case {
  at::Tensor prediction, target, mask;
};

Case random_case(int64_t hidden, at::ScalarType type) {
  at::manual_seed(7);
  Case c;
  c.prediction = at::randn({3, 50, hidden}).to(type);
  c.target = at::randn({3, 50, hidden}).to(type);
  c.mask = at::randint(0, 2, {3, 50}, at::kByte);
  return c;
}

TEST(MaskedLoss, EqualsTheFormula) {
  for (at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    for (int64_t hidden : {1, 15, 16, 37, 64}) {
      const Case c = random_case(hidden, type);
      const MaskedLoss loss = masked_squared_error(c.prediction, c.target, c.mask, 0.25);
      const at::Tensor difference =
          (c.prediction.to(at::kDouble) - c.target.to(at::kDouble)) * c.mask.unsqueeze(-1).to(at::kDouble);
      EXPECT_NEAR(loss.squared_error.item<double>(), difference.square().sum().item<double>(), 1e-4 * hidden) << hidden;
      const at::Tensor gradient = (difference * 0.25).to(type);
      EXPECT_TRUE(at::allclose(loss.gradient.to(at::kDouble), gradient.to(at::kDouble), 1e-2, 1e-6)) << hidden;
      EXPECT_EQ(loss.gradient.scalar_type(), type);
    }
  }
}

TEST(MaskedLoss, OutliersCountAsNone) {
  for (at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    const Case c = random_case(37, type);
    const at::Tensor difference = c.prediction.to(at::kDouble) - c.target.to(at::kDouble);
    const at::Tensor limit = std::get<0>(difference.abs().view(-1).topk(6)).min();
    const at::Tensor kept = difference.masked_fill(difference.abs().gt(limit), 0) * c.mask.unsqueeze(-1);
    EXPECT_LE(difference.abs().gt(limit).sum().item<int64_t>(), 5) << "fewer where they are equal";
    const MaskedLoss loss = masked_squared_error(c.prediction, c.target, c.mask, 0.25, 5),
                     all = masked_squared_error(c.prediction, c.target, c.mask, 0.25);
    EXPECT_NEAR(loss.squared_error.item<double>(), kept.square().sum().item<double>(), 0.01);
    EXPECT_LT(loss.squared_error.item<double>(), all.squared_error.item<double>() - 5);
    EXPECT_TRUE(at::allclose(loss.gradient.to(at::kDouble), (kept * 0.25).to(type).to(at::kDouble), 1e-2, 1e-6));
  }
}

TEST(MaskedLoss, SameBitsForAnyThreadCount) {
  const Case c = random_case(129, at::kBFloat16);
  set_threads(1);
  const double one = masked_squared_error(c.prediction, c.target, c.mask, 1).squared_error.item<double>();
  for (int n : {2, 3, 5}) {
    set_threads(n);
    EXPECT_EQ(masked_squared_error(c.prediction, c.target, c.mask, 1).squared_error.item<double>(), one)
        << n << " threads";
  }
  set_threads(0);
}

TEST(MaskedLoss, NothingUnmaskedGivesZero) {
  Case c = random_case(8, at::kFloat);
  c.mask.zero_();
  const MaskedLoss loss = masked_squared_error(c.prediction, c.target, c.mask, 1);
  EXPECT_EQ(loss.squared_error.item<double>(), 0);
  EXPECT_EQ(loss.gradient.abs().max().item<float>(), 0);
}

}  // namespace
}  // namespace roundhouse
