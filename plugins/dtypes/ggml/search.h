// SPDX-License-Identifier: Apache-2.0
// The search for the scales and minimums of ggml's blocks: the weights of its errors. The kernels search.
#pragma once

#include <cstdint>

#include "block_type.h"
#include "kernels/ggml.h"

namespace roundhouse::ggml {

// What a type says of a layer.
kernels::GgmlLayer layer_of(BlockType type);

// w f32 [cols], whole blocks of finite values. importance f32 [cols], >= 0, or nullptr; an importance of zero counts as
// the least other one of the row. out [blocks]: d and dmin are representable in f16; minimums are negative only in q4_1
// and q5_1.
void search_row(BlockType type, const float* w, int64_t cols, const float* importance, kernels::GgmlBlock* out);

}  // namespace roundhouse::ggml
