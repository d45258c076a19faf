// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/shares.h"

#include <gtest/gtest.h>

#include <cstring>

#include "host/base/error.h"

namespace roundhouse {
namespace {

// Sums in float32 tell in which order they were added.
at::Tensor value_of(int64_t unit) {
  return at::full({1}, 1.0f / static_cast<float>(unit + 3)) * static_cast<double>(1 << (unit * 7 % 20));
}

TEST(Shares, JoinToTheBitsOfOneProcess) {
  constexpr int64_t kSeqlen = 512;  // two samples a unit
  for (int64_t units = 1; units <= 70; ++units) {
    UnitTree whole;
    for (int64_t unit = 0; unit < units; ++unit) whole.add(value_of(unit));
    const at::Tensor expected = whole.take();
    for (int ranks = 1; ranks <= 9; ++ranks) {
      SCOPED_TRACE(cat(units, " units, ", ranks, " ranks"));
      const int64_t samples = 2 * units - 1;
      UnitTree joined;
      int64_t next = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        const Range share = share_of_rank(samples, kSeqlen, rank, ranks);
        ASSERT_EQ(share.begin, next);
        next = share.end;
        UnitTree part;
        for_units(share.size(), kSeqlen,
                  [&](int64_t begin, int64_t) { part.add(value_of((share.begin + begin) / 2)); });
        joined.add(part.take());
      }
      EXPECT_EQ(next, samples);
      EXPECT_EQ(joined.take().item<float>(), expected.item<float>());
    }
  }
}

TEST(Shares, AreEvenWhereTheNumbersAllowIt) {
  EXPECT_EQ(units_of_rank(8, 4), 2);
  EXPECT_EQ(units_of_rank(6, 3), 2);
  EXPECT_EQ(units_of_rank(6, 2), 4);  // 4 and 2: three are no subtree
  EXPECT_EQ(units_of_rank(5, 8), 1);
}

TEST(Shares, APlaceWithoutAValueIsKept) {
  UnitTree with_gaps, same;
  with_gaps.skip_to(2);
  with_gaps.add(value_of(2));
  with_gaps.skip_to(5);
  with_gaps.add(value_of(5));
  for (const int64_t unit : {-1, -1, 2, -1, -1, 5}) same.add(unit < 0 ? at::Tensor() : value_of(unit));
  EXPECT_EQ(with_gaps.take().item<float>(), same.take().item<float>());
}

}  // namespace
}  // namespace roundhouse
