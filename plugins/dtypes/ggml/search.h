// The search for scales and minimums of ggml blocks: those whose finished blocks (f16 d and dmin, integer codes of the
// groups' scales and minimums, elements rounded with them) have the least weighted error.
#pragma once

#include <cstdint>
#include <vector>

#include "block_type.h"

namespace roundhouse::ggml {

// An element is scale * code - minimum. All values are what a decoder sees: d and dmin are representable in f16.
struct SearchedRow {
  std::vector<float> scale, minimum;  // [groups]; minimum: asymmetric types only; negative only in q4_1 and q5_1
  std::vector<float> d, dmin;      // [blocks]; dmin: asymmetric types only; scale and minimum where a block is a group
  std::vector<int8_t> scale_code;  // [groups], K types: scale / d
  std::vector<uint8_t> minimum_code;  // [groups], asymmetric K types: minimum / dmin
};

// w f32 [cols], whole blocks of finite values. importance f32 [cols], >= 0, or nullptr; an importance of zero counts as
// the least other one of the row.
void search_row(BlockType type, const float* w, int64_t cols, const float* importance, SearchedRow& out);

}  // namespace roundhouse::ggml
