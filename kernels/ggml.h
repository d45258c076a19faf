// SPDX-License-Identifier: Apache-2.0
// Quantization to the blocks of ggml: W ~ scale * code - minimum. What the CPU and the CUDA kernels work on.
//
// A row is whole blocks and a block is whole groups, the columns that share a scale and, asymmetric, a minimum. In the
// K types both are small integers times the block's d and dmin; in the others d and dmin are the group's own.
#pragma once

#include "affine.h"

namespace roundhouse::kernels {

inline constexpr int kMostGroups = 16;  // of a block
inline constexpr int kMostBlockCols = 256, kMostGroupCols = 32;

struct GgmlLayer {
  int64_t rows, cols;
  int32_t bits, block_cols, group_cols;
  int32_t super_bits;  // of a scale or minimum in units of d or dmin; 0: a block is one group
  bool symmetric;      // codes around 2^(bits-1), no minimum, the scale carries a sign
  bool positive;       // symmetric with a scale above 0: codes to both sides alike (q8_0)
  // auto-round's arithmetic: d and dmin stay float32 (so no block holds the result), the scales before them are of the
  // element type `scale` and at least `scale_threshold`. Else d and dmin are float16, as in the block.
  bool reference;
  bool searched;  // d, dmin and the integer scales come from a search, not from ranges
  Element weight, scale;
  float scale_threshold;
};

KERNEL_FN int64_t ggml_blocks(const GgmlLayer& layer) { return layer.rows * (layer.cols / layer.block_cols); }
KERNEL_FN int ggml_block_groups(const GgmlLayer& layer) { return layer.block_cols / layer.group_cols; }
KERNEL_FN int64_t ggml_groups(const GgmlLayer& layer) { return ggml_blocks(layer) * ggml_block_groups(layer); }

// What rounding reads. v has the shape of the weight. A null tunable has its initial value (0, 1, 1).
struct GgmlInput {
  const void* weight;
  const float *v, *min_scale, *max_scale;  // [groups], but v
  const float *low, *high;                 // [groups] range: min(min w, 0), max(max w, 0); not searched
  const float *d, *dmin;                   // [blocks], searched
  const float *scale_code, *minimum_code;  // [groups], searched
};

// Null where not wanted. minimum, dmin and zero_point: asymmetric only.
struct GgmlOutput {
  void* qdq;  // shape of the weight; rounded to the weight's element type, then converted
  Element qdq_type;
  void* scale;                // [groups]; of the element type layer.scale where a block is one group, else f32
  float *minimum, *d, *dmin;  // [groups], [blocks], [blocks]
  float* zero_point;          // [groups], of auto-round's arithmetic
};

// One block's parameters.
struct GgmlBlock {
  float d, dmin;
  float scale_code[kMostGroups], minimum_code[kMostGroups];  // integers; 1 where a block is one group
  float scale[kMostGroups], minimum[kMostGroups];            // of each group
};

}  // namespace roundhouse::kernels
