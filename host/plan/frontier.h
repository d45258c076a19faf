// SPDX-License-Identifier: Apache-2.0
// The knapsack problem with several choices: one option of each group, the least loss at every size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace roundhouse {

struct SizedLoss {
  uint64_t bytes = 0;
  double loss = 0;

  bool operator==(const SizedLoss&) const = default;
};

// All sizes for which no other choice is both as small and as good, by dynamic programming over the groups: exact as
// long as no more than `limit` of them are open at a time; beyond that, of those whose bytes are nearly the same the
// best stays. Every point is the true sum of its options either way.
class Frontier {
 public:
  static constexpr size_t kLimit = 1 << 14;

  // groups: the options of each. REQUIRES: no group is empty, and losses are finite.
  explicit Frontier(const std::vector<std::vector<SizedLoss>>& groups, size_t limit = kLimit);

  // Bytes rise, and losses fall. Never empty.
  const std::vector<SizedLoss>& points() const { return points_; }
  // The option of each group at a point.
  std::vector<size_t> options(size_t point) const;

 private:
  struct Step {
    uint32_t before, option;  // the point of the groups before, and this group's option
  };

  std::vector<SizedLoss> points_;
  std::vector<std::vector<Step>> steps_;  // by group, beside what the points were then
};

}  // namespace roundhouse
