// SPDX-License-Identifier: Apache-2.0
// Equal matrices that belong together, such as the experts of a block.
#pragma once

#include <roundhouse/format.h>

#include <cstdint>
#include <string>

namespace roundhouse {

// A matrix's place among them: rh_stack, with its own text.
struct StackPlace {
  std::string name;  // the same for all: "model.layers.0.mlp.experts.gate_proj"
  int64_t index = 0, count = 0;

  // Borrows the name.
  rh_stack view() const { return {sizeof(rh_stack), 0, name.c_str(), index, count}; }
};

// Where the source has a matrix or a bias within a tensor of all, or transposed: rh_part, with its own text.
struct StackedPart {
  std::string tensor;
  int64_t index = 0, count = 0;
  int64_t part = 0, parts = 0;
  bool transposed = false, interleaved = false, only = false;

  // Borrows the name.
  rh_part view() const {
    return {sizeof(rh_part), transposed, tensor.c_str(), index, count, part, parts, interleaved, only};
  }
};

}  // namespace roundhouse
