// SPDX-License-Identifier: Apache-2.0
// The block types of ggml that this plugin quantizes to; the SDK has their table.
#pragma once

#include <roundhouse/encoding/ggml_block.hpp>

#include "kernels/floats.h"

namespace roundhouse::ggml {

enum class BlockType : int {
  kQ4_0 = RH_GGML_Q4_0,
  kQ4_1 = RH_GGML_Q4_1,
  kQ5_0 = RH_GGML_Q5_0,
  kQ5_1 = RH_GGML_Q5_1,
  kQ8_0 = RH_GGML_Q8_0,
  kQ2_K = RH_GGML_Q2_K,
  kQ3_K = RH_GGML_Q3_K,
  kQ4_K = RH_GGML_Q4_K,
  kQ5_K = RH_GGML_Q5_K,
  kQ6_K = RH_GGML_Q6_K,
};
inline constexpr int kBlockTypes = RH_GGML_TYPES;

using BlockFacts = rh::GgmlType;

KERNEL_FN constexpr BlockFacts facts(BlockType type) { return rh::ggml_type(static_cast<int>(type)); }

}  // namespace roundhouse::ggml
