// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/weight_gradient.h"

#include <gtest/gtest.h>

#include "host/model/ops.h"

namespace roundhouse {
namespace {

constexpr int64_t kIn = 48, kOut = 32;

at::Tensor product(const at::Tensor& dy, const at::Tensor& x) { return with_round_rows(dy).t().mm(with_round_rows(x)); }

// Units with few tokens, with many and with none, in any order: what is kept as factors joins the same tree.
TEST(WeightGradient, OfFactorsIsTheTreeOfTheProducts) {
  at::manual_seed(1);
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16})
    for (const std::vector<int64_t>& tokens : std::vector<std::vector<int64_t>>{
             {3}, {100}, {0}, {3, 5}, {3, 0, 100, 2, 0, 4, 100}, {0, 0, 7}, {2, 3, 4, 5, 6}, {}}) {
      WeightGradient gradient;
      UnitTree expected;
      for (const int64_t n : tokens) {
        if (n == 4) gradient.add_kept();  // at any time
        const at::Tensor x = at::randn({n, kIn}).to(type), dy = at::randn({n, kOut}).to(type);
        if (n > 0) gradient.add_product({x, {}, {}}, {dy, {}, {}});
        gradient.end_unit({});
        expected.add(n > 0 ? product(dy, x) : at::Tensor());
      }
      const at::Tensor got = gradient.take(), wanted = expected.take();
      ASSERT_EQ(got.defined(), wanted.defined());
      if (!got.defined()) continue;
      EXPECT_EQ(got.scalar_type(), wanted.scalar_type());
      EXPECT_TRUE(at::equal(got, wanted)) << tokens.size() << " units";
    }
}

TEST(WeightGradient, FactorsMayBeRowsOfSmallerTensors) {
  at::manual_seed(1);
  const at::Tensor tokens = at::randn({5, kIn}).to(at::kBFloat16), sums = at::randn({5, kOut}).to(at::kBFloat16);
  const at::Tensor index = at::tensor({4, 0, 0, 2, 3, 1}, at::kLong), scales = at::rand({6, 1});
  const at::Tensor x = tokens.index_select(0, index),
                   dy = (sums.index_select(0, index).to(at::kFloat) * scales).to(at::kBFloat16);
  GatheredRows gathered;
  gathered.add(x, {tokens, index, {}});
  gathered.add(dy, {sums, index, scales});
  for (const auto& [first, count] : {std::pair<int64_t, int64_t>{0, 6}, {2, 3}, {5, 1}}) {
    const at::Tensor some_x = x.narrow(0, first, count), some_dy = dy.narrow(0, first, count);
    const Rows rows = gathered.of(some_dy);
    EXPECT_TRUE(rows.base.is_same(sums));
    EXPECT_TRUE(at::equal(rows.take(), some_dy));
    WeightGradient gradient;
    gradient.add_product(gathered.of(some_x), rows);
    gradient.end_unit({});
    EXPECT_TRUE(at::equal(gradient.take(), product(some_dy, some_x)));
  }
  const at::Tensor other = at::randn({3, kIn});
  EXPECT_TRUE(gathered.of(other).base.is_same(other));
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
