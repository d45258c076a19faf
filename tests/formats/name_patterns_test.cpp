// SPDX-License-Identifier: Apache-2.0
#include "plugins/formats/lib/name_patterns.h"

#include <gmock/gmock.h>

namespace roundhouse::formats {
namespace {

using testing::ElementsAre;

std::string expert(int block, int number, const std::string& part) {
  return "m." + std::to_string(block) + ".experts." + std::to_string(number) + "." + part;
}

TEST(NamePatterns, OnePatternStandsForAllExperts) {
  EXPECT_THAT(with_patterns({"m.0.q", expert(0, 0, "up"), expert(0, 1, "up"), expert(1, 0, "up"), "head"},
                            {expert(0, 0, "down"), "m.0.k"}),
              ElementsAre("m.0.q", "re:m\\.\\d+\\.experts\\.\\d+\\.up$", "head"));
}

TEST(NamePatterns, WhereOtherBlocksDifferEachHasItsOwn) {
  EXPECT_THAT(with_patterns({expert(0, 0, "up"), expert(0, 1, "up")}, {expert(1, 0, "up"), expert(1, 1, "up")}),
              ElementsAre("re:m\\.0\\.experts\\.\\d+\\.up$"));
}

TEST(NamePatterns, WhereOtherExpertsDifferNamesStay) {
  EXPECT_THAT(with_patterns({expert(0, 0, "up"), expert(0, 1, "up")}, {expert(0, 2, "up")}),
              ElementsAre(expert(0, 0, "up"), expert(0, 1, "up")));
}

TEST(NamePatterns, SignsOfRegularExpressionsStandForThemselves) {
  EXPECT_THAT(with_patterns({"m(a)+.0.e.0.up", "m(a)+.0.e.1.up"}, {}),
              ElementsAre("re:m\\(a\\)\\+\\.\\d+\\.e\\.\\d+\\.up$"));
}

TEST(NamePatterns, OneNameNeedsNone) {
  EXPECT_THAT(with_patterns({expert(0, 0, "up")}, {}), ElementsAre(expert(0, 0, "up")));
}

}  // namespace
}  // namespace roundhouse::formats
