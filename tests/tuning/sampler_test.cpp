// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/sampler.h"

#include <gtest/gtest.h>

#include <set>

namespace roundhouse {
namespace {

TEST(BatchSampler, SeesEachSampleOnceAnEpochAndDropsTheTail) {
  PythonRandom random(42);
  BatchSampler sampler(10, 4, random);
  for (int epoch = 0; epoch < 3; ++epoch) {
    std::set<int64_t> seen;
    for (int batch = 0; batch < 2; ++batch)
      for (int64_t i : sampler.next()) {
        EXPECT_GE(i, 0);
        EXPECT_LT(i, 10);
        EXPECT_TRUE(seen.insert(i).second) << "sample " << i << " twice in epoch " << epoch;
      }
    EXPECT_EQ(seen.size(), 8u);
  }
}

TEST(BatchSampler, DrawsAsPythonDoes) {
  // import random; random.seed(42); l = list(range(6)); random.shuffle(l); print(l); random.shuffle(l); print(l)
  PythonRandom random(42);
  BatchSampler sampler(6, 6, random);
  EXPECT_EQ(sampler.next(), (std::vector<int64_t>{3, 1, 2, 4, 0, 5}));
  EXPECT_EQ(sampler.next(), (std::vector<int64_t>{4, 3, 2, 0, 5, 1}));
}

}  // namespace
}  // namespace roundhouse
