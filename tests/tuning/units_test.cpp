// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/units.h"

#include <gtest/gtest.h>

#include <cmath>

namespace roundhouse {
namespace {

at::Tensor number(double value, at::ScalarType type = at::kFloat) { return at::scalar_tensor(value, type); }

TEST(Units, AsFewWholeSamplesAsHold1024Tokens) {
  for (const auto& [seqlen, samples] : {std::pair{1, 1024}, {100, 11}, {128, 8}, {512, 2}, {1000, 2}, {1023, 2}})
    EXPECT_EQ(unit_samples(seqlen), samples) << seqlen;
  for (const int64_t seqlen : {1024, 1025, 2048, 1 << 20}) EXPECT_EQ(unit_samples(seqlen), 1) << seqlen;
}

TEST(Units, CoverAllSamplesOnce) {
  using Ranges = std::vector<std::pair<int64_t, int64_t>>;
  const auto units = [](int64_t samples, int64_t seqlen) {
    Ranges ranges;
    for_units(samples, seqlen, [&](int64_t begin, int64_t end) { ranges.emplace_back(begin, end); });
    return ranges;
  };
  EXPECT_EQ(units(8, 128), (Ranges{{0, 8}})) << "the quickstart's batch is one unit";
  EXPECT_EQ(units(3, 128), (Ranges{{0, 3}}));
  EXPECT_EQ(units(5, 512), (Ranges{{0, 2}, {2, 4}, {4, 5}}));
  EXPECT_EQ(units(2, 2048), (Ranges{{0, 1}, {1, 2}}));
  EXPECT_EQ(units(0, 2048), Ranges{});
}

// The order, as a text: the join of a and b is (a b), and values are letters.
std::string order(int count) {
  std::vector<std::string> texts;
  UnitTree tree([&](const at::Tensor& a, const at::Tensor& b) {
    texts.push_back("(" + texts[a.item<int64_t>()] + texts[b.item<int64_t>()] + ")");
    return at::scalar_tensor(static_cast<int64_t>(texts.size() - 1), at::kLong);
  });
  for (int i = 0; i < count; ++i) {
    texts.emplace_back(1, static_cast<char>('a' + i));
    tree.add(at::scalar_tensor(static_cast<int64_t>(texts.size() - 1), at::kLong));
  }
  const at::Tensor whole = tree.take();
  return whole.defined() ? texts[whole.item<int64_t>()] : "";
}

TEST(UnitTree, JoinsNeighboursThenPairsOfThem) {
  EXPECT_EQ(order(0), "");
  EXPECT_EQ(order(1), "a");
  EXPECT_EQ(order(2), "(ab)");
  EXPECT_EQ(order(3), "((ab)c)");
  EXPECT_EQ(order(4), "((ab)(cd))");
  EXPECT_EQ(order(5), "(((ab)(cd))e)");
  EXPECT_EQ(order(6), "(((ab)(cd))(ef))");
  EXPECT_EQ(order(7), "(((ab)(cd))((ef)g))");
  EXPECT_EQ(order(11), "((((ab)(cd))((ef)(gh)))((ij)k))");
}

TEST(UnitTree, OfAllValuesInOnePassHasTheSameBits) {
  at::manual_seed(1);
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kDouble})
    for (const std::vector<bool>& defined : std::vector<std::vector<bool>>{
             {}, {false}, {true}, {false, true}, {true, true}, {true, false, true, true, true}, {true, true, true}}) {
      UnitTree tree;
      std::vector<at::Tensor> values;
      for (const bool is : defined) {
        const at::Tensor value = is ? at::randn({300, 500}).to(type) : at::Tensor();
        tree.add(is ? value.clone() : value);
        values.push_back(value);
      }
      const at::Tensor expected = tree.take(), got = tree_sum(values);
      ASSERT_EQ(got.defined(), expected.defined());
      if (!got.defined()) continue;
      EXPECT_EQ(got.scalar_type(), expected.scalar_type());
      EXPECT_TRUE(at::equal(got, expected)) << defined.size() << " values";
    }
}

TEST(UnitTree, AnUndefinedValueKeepsItsPlaceAsAZeroDoes) {
  for (uint32_t missing = 0; missing < 1 << 6; ++missing) {
    UnitTree with_zeros, with_gaps;
    for (int i = 0; i < 6; ++i) {
      const bool gap = missing >> i & 1;
      const at::Tensor value = number(std::pow(7.3, i));
      with_zeros.add(gap ? number(0) : value.clone());
      with_gaps.add(gap ? at::Tensor() : value);
    }
    const at::Tensor sum = with_gaps.take();
    ASSERT_EQ(sum.defined(), missing != (1 << 6) - 1);
    EXPECT_EQ(sum.defined() ? sum.item<float>() : 0, with_zeros.take().item<float>()) << missing;
  }
}

// 2^24 + 1 is no float: it rounds to 2^24, and each order of these four has another sum.
TEST(UnitTree, SumsInThatOrder) {
  const float large = 16777216;
  UnitTree tree;
  for (const float value : {1.0f, large, 1.0f, 1.0f}) tree.add(number(value));
  EXPECT_EQ(tree.take().item<float>(), large + 2) << "(1 + 2^24) + (1 + 1); one by one it is 2^24";
  for (const float value : {large, 1.0f, 1.0f}) tree.add(number(value));
  EXPECT_EQ(tree.take().item<float>(), large) << "(2^24 + 1) + 1, in a tree that was emptied";
}

TEST(UnitTree, NarrowTypesAreAddedInFloat32) {
  for (const at::ScalarType type : {at::kBFloat16, at::kHalf}) {
    UnitTree tree;
    tree.add(number(1, type));
    EXPECT_EQ(tree.take().scalar_type(), type) << "one value stays as it is";
    for (const double value : {256.0, 1.0 / 256, 1.0 / 256}) tree.add(number(value, type));
    const at::Tensor sum = tree.take();
    EXPECT_EQ(sum.scalar_type(), at::kFloat);
    EXPECT_EQ(sum.item<float>(), 256 + 2.0f / 256);
  }
  UnitTree tree;
  for (const double value : {1.0, 1e-12}) tree.add(number(value, at::kDouble));
  EXPECT_EQ(tree.take().item<double>(), 1.0 + 1e-12);
}

}  // namespace
}  // namespace roundhouse
