// SPDX-License-Identifier: Apache-2.0
#include "host/plan/frontier.h"

#include <algorithm>
#include <cassert>
#include <tuple>

namespace roundhouse {

Frontier::Frontier(const std::vector<std::vector<SizedLoss>>& groups, size_t limit) : points_(1) {
  struct Candidate {
    SizedLoss sum;
    Step step;
    auto order() const { return std::tuple(sum.bytes, sum.loss, step.before, step.option); }
  };
  std::vector<Candidate> candidates;
  for (const std::vector<SizedLoss>& options : groups) {
    assert(!options.empty());
    candidates.clear();
    for (uint32_t before = 0; before < points_.size(); ++before)
      for (uint32_t option = 0; option < options.size(); ++option)
        candidates.push_back(
            {{points_[before].bytes + options[option].bytes, points_[before].loss + options[option].loss},
             {before, option}});
    std::sort(candidates.begin(), candidates.end(),
              [](const Candidate& a, const Candidate& b) { return a.order() < b.order(); });
    size_t kept = 0;
    for (const Candidate& candidate : candidates)
      if (kept == 0 || candidate.sum.loss < candidates[kept - 1].sum.loss) candidates[kept++] = candidate;
    candidates.resize(kept);
    if (kept > limit) {  // the smallest, and the best of each stretch of bytes
      const uint64_t first = candidates.front().sum.bytes;
      const uint64_t stretch = (candidates.back().sum.bytes - first) / (limit - 1) + 1;
      kept = 1;
      for (size_t i = 1; i < candidates.size(); ++i) {
        const bool same = kept > 1 && (candidates[i].sum.bytes - first) / stretch ==
                                          (candidates[kept - 1].sum.bytes - first) / stretch;
        candidates[same ? kept - 1 : kept++] = candidates[i];
      }
      candidates.resize(kept);
    }
    points_.clear();
    std::vector<Step>& steps = steps_.emplace_back();
    for (const Candidate& candidate : candidates) {
      points_.push_back(candidate.sum);
      steps.push_back(candidate.step);
    }
  }
}

std::vector<size_t> Frontier::options(size_t point) const {
  std::vector<size_t> options(steps_.size());
  for (size_t group = steps_.size(); group-- > 0;) {
    const Step step = steps_[group][point];
    options[group] = step.option;
    point = step.before;
  }
  return options;
}

}  // namespace roundhouse
