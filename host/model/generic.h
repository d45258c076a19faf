// SPDX-License-Identifier: Apache-2.0
// Models of any family: the linear layers of a checkpoint by the names and shapes of its weights.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "host/base/stacked_source.h"
#include "host/base/tensor.h"
#include "host/model/descriptor.h"
#include "host/model/structure.h"

namespace roundhouse {

// A descriptor that describes no blocks says which weights are layers instead.
bool is_generic(const Descriptor& descriptor);

// The stacks of experts among the tensors. Throws Error for one of which the input cannot be told.
std::vector<StackedTensor> find_stacks(const Descriptor& descriptor, TensorSource& source);

// What a checkpoint holds. Blocks are what the prefix of most layers counts.
struct GenericModel {
  struct Block {
    std::vector<LinearInfo> linears;   // in the checkpoint's order
    std::vector<std::string> tensors;  // all of them
  };
  std::string block_prefix;  // "model.layers"; "" when no layer's name has a number
  std::vector<Block> blocks;
  Block outside;  // its linears are without the head
  LinearInfo head;
  bool head_is_stored = false;
  bool head_is_layer = false;                             // config.json does not tie it to the embedding
  std::vector<std::pair<std::string, std::string>> left;  // weights that are no layers, and why
  std::map<std::string, std::string> modules;             // the prefix in transformers, by the stored one
  std::map<std::string, std::string> imatrix_names;       // as Architecture::imatrix_names
};

// REQUIRES: the stacks are matrices by now.
GenericModel read_generic(const Descriptor& descriptor, TensorSource& source);

}  // namespace roundhouse
