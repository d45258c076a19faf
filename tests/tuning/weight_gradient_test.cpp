// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/weight_gradient.h"

#include <gtest/gtest.h>

namespace roundhouse {
namespace {

constexpr int64_t kIn = 48, kOut = 32;

// Units with few tokens, with many and with none, in any order: what is kept as factors joins the same tree.
TEST(WeightGradient, OfFactorsIsTheTreeOfTheProducts) {
  at::manual_seed(1);
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16})
    for (const std::vector<int64_t>& tokens : std::vector<std::vector<int64_t>>{
             {3}, {100}, {0}, {3, 5}, {3, 0, 100, 2, 0, 4, 100}, {0, 0, 7}, {2, 3, 4, 5, 6}, {}}) {
      WeightGradient gradient;
      UnitTree expected;
      for (const int64_t n : tokens) {
        const at::Tensor x = at::randn({n, kIn}).to(type), dy = at::randn({n, kOut}).to(type);
        if (n > 0) gradient.add_product(x, dy);
        gradient.end_unit({});
        expected.add(n > 0 ? dy.t().mm(x) : at::Tensor());
      }
      const at::Tensor got = gradient.take(), wanted = expected.take();
      ASSERT_EQ(got.defined(), wanted.defined());
      if (!got.defined()) continue;
      EXPECT_EQ(got.scalar_type(), wanted.scalar_type());
      EXPECT_TRUE(at::equal(got, wanted)) << tokens.size() << " units";
    }
}

TEST(WeightGradient, OfBackwardIsTheTreeOfTheGradients) {
  WeightGradient gradient;
  const at::Tensor a = at::randn({kOut, kIn}), b = at::randn({kOut, kIn});
  for (const at::Tensor& unit : {a.clone(), at::Tensor(), b.clone()}) gradient.end_unit(unit);
  EXPECT_TRUE(at::equal(gradient.take(), a + b));
  EXPECT_FALSE(gradient.take().defined()) << "handed over";
}

}  // namespace
}  // namespace roundhouse
