// The block types of ggml that this plugin quantizes to (ggml-common.h in llama.cpp has their layouts).
#pragma once

#include <cstdint>

#include "kernels/floats.h"

namespace roundhouse::ggml {

enum class BlockType { kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ8_0, kQ2_K, kQ3_K, kQ4_K, kQ5_K, kQ6_K };
inline constexpr int kBlockTypes = 10;

struct BlockFacts {
  const char* name;
  int bits;        // of a code
  int block_cols;  // columns of a block: a super-block of groups for the K types, else one group
  int block_bytes;
  int group_cols;  // columns that share a scale (and, asymmetric, a minimum)
  bool symmetric;  // no minimum
  int super_bits;  // bits of a group's scale and minimum in units of the block's d and dmin; 0: f16 itself
  constexpr int groups() const { return block_cols / group_cols; }
};

KERNEL_FN constexpr BlockFacts facts(BlockType type) {
  constexpr BlockFacts all[kBlockTypes] = {
      {"q4_0", 4, 32, 18, 32, true, 0},   {"q4_1", 4, 32, 20, 32, false, 0},   {"q5_0", 5, 32, 22, 32, true, 0},
      {"q5_1", 5, 32, 24, 32, false, 0},  {"q8_0", 8, 32, 34, 32, true, 0},    {"q2_k", 2, 256, 84, 16, false, 4},
      {"q3_k", 3, 256, 110, 16, true, 6}, {"q4_k", 4, 256, 144, 32, false, 6}, {"q5_k", 5, 256, 176, 32, false, 6},
      {"q6_k", 6, 256, 210, 16, true, 8},
  };
  return all[static_cast<int>(type)];
}

}  // namespace roundhouse::ggml
