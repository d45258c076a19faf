// SPDX-License-Identifier: Apache-2.0
// The importance matrix: how much each input channel of a linear layer moves its output.
#pragma once

#include <ATen/ATen.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "host/model/structure.h"
#include "host/plan/plan.h"
#include "host/tuning/units.h"

namespace roundhouse {

// Sums the squares of a linear's inputs over tokens, channel by channel, in float64: in the order of the tokens within
// a unit (units.h).
class ImportanceCollector {
 public:
  explicit ImportanceCollector(std::set<std::string> layers) : layers_(std::move(layers)) {}

  bool wants(const std::string& layer) const { return layers_.contains(layer); }
  // input: [..., in_features], of one unit: the `unit`th of those whose sums are joined, where some may have no input.
  // Nothing happens for a layer that is not wanted.
  void add(const LinearInfo& linear, const at::Tensor& input, int64_t unit = 0);
  // Every rank: adds what the others have.
  void join_ranks();
  // Those of the layers added since the last call. Throws Error when one is not finite.
  Importance take();

 private:
  struct Sum {
    std::string first;  // of the linears that read this input
    UnitTree squares;   // f64 [in_features], where the inputs are
    double count = 0;   // tokens
  };

  std::set<std::string> layers_;
  std::map<std::string, Sum> sums_;              // by siblings, or layer
  std::map<std::string, std::string> by_layer_;  // into sums_
};

}  // namespace roundhouse
