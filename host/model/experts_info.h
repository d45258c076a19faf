// SPDX-License-Identifier: Apache-2.0
// Mixtures of experts in a descriptor, and how checkpoints store them.
#pragma once

#include <string>
#include <vector>

#include "host/base/stacked_source.h"
#include "host/base/tensor.h"
#include "host/model/descriptor.h"
#include "host/model/structure.h"

namespace roundhouse {

// `value` itself, or, where it is a list, its item for the block.
Value of_block(const Value& value, int64_t index);

// Whether a block has the experts that `value` describes: its `blocks` says it by `first`, `last`, `every`, `except`,
// `only`, `when` and `unless`; without, all blocks have.
bool has_experts(const Value& value, int64_t index);

// linear: what `value` says of the router as of a linear.
RouterInfo router(const Value& value, LinearInfo linear, const std::string& prefix, int64_t index);

// `pattern` for each expert, its number in place of "{}" in the names.
std::vector<MlpInfo> each_expert(const MlpInfo& pattern, int64_t count);

// value: the list `stacked`.
std::vector<StackedExperts> stacked_experts(const Value& value, const MlpInfo& pattern, const std::string& prefix);

// The stacks of experts that are stored as one. Throws Error for one that does not have the shape that it should have.
std::vector<StackedTensor> find_stacks(const DecoderInfo& info, TensorSource& source);

}  // namespace roundhouse
