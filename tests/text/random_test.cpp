// SPDX-License-Identifier: Apache-2.0
// PythonRandom against lists that CPython 3.11's random.Random(seed) gave:
//   r = random.Random(seed); [r.getrandbits(b) for b in (1, 5, 31, 32, 33, 64)]; r.shuffle(l := list(range(12))); l
#include "host/base/random.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace roundhouse {
namespace {

struct Recorded {
  uint64_t seed;
  std::vector<uint64_t> bits;
  std::vector<int> shuffled;
};

const Recorded kRecorded[] = {
    {0u,
     {1u, 12u, 1627694678u, 3823568514u, 1806341205u, 17809683713383489082u},
     {9, 0, 3, 5, 1, 11, 2, 10, 4, 6, 7, 8}},
    {42u, {1u, 3u, 53710184u, 3184935163u, 1181241943u, 2574020394472462046u}, {3, 2, 4, 9, 5, 7, 0, 6, 10, 8, 1, 11}},
    {4294967295u,
     {1u, 19u, 436368544u, 924893097u, 6903586996u, 11124323167451281159u},
     {8, 2, 10, 9, 1, 0, 3, 7, 11, 4, 6, 5}},
    {4294967296u,
     {0u, 11u, 897280643u, 4014597330u, 71624475u, 16161065642225157897u},
     {6, 11, 1, 9, 4, 3, 10, 2, 0, 7, 8, 5}},
    {18446744073709551615u,
     {0u, 7u, 726054176u, 2657516307u, 910393425u, 1752763915482752451u},
     {6, 4, 1, 9, 2, 10, 11, 7, 8, 3, 0, 5}},
};

TEST(PythonRandom, GivesCPythonsBitsAndShuffles) {
  for (const Recorded& recorded : kRecorded) {
    SCOPED_TRACE(recorded.seed);
    PythonRandom random(recorded.seed);
    std::vector<uint64_t> bits;
    for (const int count : {1, 5, 31, 32, 33, 64}) bits.push_back(random.getrandbits(count));
    EXPECT_EQ(bits, recorded.bits);
    std::vector<int> items(12);
    std::iota(items.begin(), items.end(), 0);
    random.shuffle(items);
    EXPECT_EQ(items, recorded.shuffled);
  }
}

// The state is regenerated every 624 words: random.Random(1), the 2000th getrandbits(32).
TEST(PythonRandom, StaysRightPastTheFirstStates) {
  PythonRandom random(1);
  uint64_t last = 0;
  for (int i = 0; i < 2000; ++i) last = random.getrandbits(32);
  EXPECT_EQ(last, 1058062369u);
}

TEST(PythonRandom, ShufflesNothingAndOneWithoutDrawing) {
  PythonRandom random(3), untouched(3);
  std::vector<int> none, one = {5};
  random.shuffle(none);
  random.shuffle(one);
  EXPECT_EQ(one, std::vector<int>{5});
  EXPECT_EQ(random.getrandbits(32), untouched.getrandbits(32));
}

}  // namespace
}  // namespace roundhouse
