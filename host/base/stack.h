// SPDX-License-Identifier: Apache-2.0
// Equal matrices that belong together, such as the experts of a block.
#pragma once

#include <roundhouse/layer.h>

#include <cstdint>
#include <string>

namespace roundhouse {

// A matrix's place among them: rh_stack, with its own text.
struct StackPlace {
  std::string name;  // the same for all: "model.layers.0.mlp.experts.gate_proj"
  int32_t storage = RH_STACK_SEPARATE;
  int64_t index = 0, count = 0;

  // Borrows the name.
  rh_stack view() const { return {sizeof(rh_stack), storage, name.c_str(), index, count}; }
};

}  // namespace roundhouse
