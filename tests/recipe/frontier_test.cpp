// SPDX-License-Identifier: Apache-2.0
#include "host/plan/frontier.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>

namespace roundhouse {
namespace {

using Groups = std::vector<std::vector<SizedLoss>>;

Groups random_groups(std::mt19937& random, size_t groups, size_t options, uint64_t bytes) {
  Groups all(groups);
  for (auto& group : all)
    for (size_t i = 0; i < options; ++i)
      group.push_back({1 + random() % bytes, static_cast<double>(random() % 1000) / 64});
  return all;
}

SizedLoss sum(const Groups& groups, const std::vector<size_t>& options) {
  SizedLoss all;
  for (size_t i = 0; i < groups.size(); ++i) {
    all.bytes += groups[i][options[i]].bytes;
    all.loss += groups[i][options[i]].loss;
  }
  return all;
}

TEST(Frontier, HasTheLeastLossOfEverySize) {
  std::mt19937 random(7);
  for (int round = 0; round < 20; ++round) {
    const Groups groups = random_groups(random, 6, 3, 40);
    const Frontier frontier(groups);
    for (size_t i = 0; i < frontier.points().size(); ++i)
      EXPECT_EQ(sum(groups, frontier.options(i)), frontier.points()[i]);
    for (uint64_t budget = 6; budget <= 240; ++budget) {
      double least = std::numeric_limits<double>::infinity(), found = least;
      std::vector<size_t> options(6);
      for (int choice = 0; choice < 729; ++choice) {  // 3^6
        for (int i = 0, rest = choice; i < 6; ++i, rest /= 3)
          options[static_cast<size_t>(i)] = static_cast<size_t>(rest % 3);
        if (const SizedLoss all = sum(groups, options); all.bytes <= budget) least = std::min(least, all.loss);
      }
      for (const SizedLoss& point : frontier.points())
        if (point.bytes <= budget) found = point.loss;
      EXPECT_EQ(found, least) << budget;
    }
  }
}

TEST(Frontier, WithALimitItsPointsAreStillTrueSumsAndTheSmallestStays) {
  std::mt19937 random(8);
  const Groups groups = random_groups(random, 12, 4, 1 << 20);
  const Frontier exact(groups), limited(groups, 64);
  EXPECT_LE(limited.points().size(), 64u);
  EXPECT_EQ(limited.points().front().bytes, exact.points().front().bytes);
  for (size_t i = 0; i < limited.points().size(); ++i) {
    EXPECT_EQ(sum(groups, limited.options(i)), limited.points()[i]);
    if (i > 0) {
      EXPECT_GT(limited.points()[i].bytes, limited.points()[i - 1].bytes);
      EXPECT_LT(limited.points()[i].loss, limited.points()[i - 1].loss);
    }
  }
}

}  // namespace
}  // namespace roundhouse
