// SPDX-License-Identifier: Apache-2.0
// A mix of schemes, resolved: the layers that move together, what each scheme makes of them, and which they get.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "host/plan/frontier.h"
#include "host/plan/plan.h"

namespace roundhouse {

// Layers that get the same scheme.
struct MixGroup {
  std::vector<size_t> layers;   // into the layers of any of the plans: those of the blocks come first, in one order
  std::vector<uint64_t> bytes;  // with each scheme
};

struct MixScheme {
  std::string name;
  SizedLoss alone;    // bytes of an export with this scheme alone; the loss once it is measured
  size_t layers = 0;  // that get it
};

struct MixPlan {
  std::string target;     // as the recipe has it
  bool of_bytes = false;  // of an export; else bits of a weight
  std::vector<MixScheme> schemes;
  std::vector<std::shared_ptr<const Plan>> plans;  // of the whole model, beside the schemes, with each alone
  std::vector<MixGroup> groups;
  std::vector<std::string> packing;  // the formats that store the layers packed
  uint64_t activation_bytes = 0;     // of what the measurement keeps between all blocks
  size_t base = 0;      // the scheme of what is outside the groups: the largest that alone meets the target
  uint64_t rest = 0;    // bytes of an export beside the groups, in the format where they are most
  uint64_t budget = 0;  // bytes of all groups, at most
  // Once sensitivities are known:
  std::optional<SizedLoss> chosen;  // of an export as it is planned
  std::vector<SizedLoss> curve;     // the least loss at sizes of an export, from the smallest to the largest
};

}  // namespace roundhouse
