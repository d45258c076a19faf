// SPDX-License-Identifier: Apache-2.0
// How many calibration tokens each expert of a block gets, and what stands in for the statistics of those that get few.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "host/discovery/catalogue.h"
#include "host/model/structure.h"
#include "host/plan/plan.h"

namespace roundhouse {

class ExpertTokens {
 public:
  // The linears of the block that are experts'.
  explicit ExpertTokens(const std::vector<LinearInfo>& linears);

  // input: [tokens, in_features]. Nothing happens for a linear that is no expert's.
  void add(const LinearInfo& linear, const at::Tensor& input);
  // Every rank: adds what the others have counted.
  void join_ranks();
  // Whether the linear is an expert's that got fewer than `least`.
  bool few(const std::string& linear, int64_t least) const;
  // Of each expert; empty: there is none.
  const std::vector<int64_t>& by_expert() const { return by_expert_; }

 private:
  std::unordered_map<std::string, std::pair<size_t, bool>> experts_;  // of each linear, and whether it counts for it
  std::vector<int64_t> by_expert_;
};

// Gives these linears of a block, which got few tokens, the sum of what is known of the experts beside them: their
// average, but for a factor.
void share_importance(Importance& importance, const std::vector<LinearInfo>& linears,
                      const std::vector<const LayerPlan*>& few);

// The plan of a layer that is not tuned: searched where its data type can, else rounded.
LayerPlan untuned(LayerPlan plan, const Catalogue& catalogue);

// The same for want of tokens, in the encoding that the formats were told of when the run was planned: the first of
// searched, what tuning would start from, and rounded that its data type encodes so.
LayerPlan untuned_as_planned(LayerPlan plan, Catalogue& catalogue);

}  // namespace roundhouse
