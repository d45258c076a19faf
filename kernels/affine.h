// SPDX-License-Identifier: Apache-2.0
// Affine integer quantization: W ~ scale * (code - zero_point). What the CPU and the CUDA kernels work on.
//
// A weight [rows, cols] is cut into spans, the columns that one row gives to one group. A group is one span, except
// when one group covers the whole tensor: then each row is a span, and what is per group (range, gradient sums) is
// reduced over spans in a fixed order. So no result depends on how spans are dealt to threads.
#pragma once

#include "tuning.h"

namespace roundhouse::kernels {

struct AffineLayer {
  int64_t rows, cols;
  int64_t span_cols;  // of a full span; the last span of a row may be shorter
  bool whole_tensor;  // one group for all spans
  bool symmetric;     // codes around a fixed zero point 2^(bits-1), the scale carries a sign
  bool tuned;         // arithmetic in float32; else plain rounding, in the weight's element type
  int32_t bits;       // 2 .. 8
  Element weight, scale;
  float scale_threshold;  // smallest magnitude of a scale; representable in its element type
  bool mirrored = false;  // symmetric only: the range is [-m, m] and spread over all 2^bits - 1 steps, as GPTQ has it;
                          // the scale is positive
  bool plus_zero =
      false;              // symmetric plain rounding gives +0 also for small negative quotients, as tuned rounding does
  float range_limit = 1;  // of min_scale and max_scale
};

KERNEL_FN int64_t affine_spans_per_row(const AffineLayer& layer) {
  return (layer.cols + layer.span_cols - 1) / layer.span_cols;
}
KERNEL_FN int64_t affine_spans(const AffineLayer& layer) { return layer.rows * affine_spans_per_row(layer); }
KERNEL_FN int64_t affine_groups(const AffineLayer& layer) { return layer.whole_tensor ? 1 : affine_spans(layer); }

// What rounding reads. v is [spans, span_cols]; the others are [groups]. A null tunable has its initial value (0, 1,
// 1).
struct AffineInput {
  const void* weight;
  const float *v, *min_scale, *max_scale;
  const float *low, *high;  // range of the group: min(min w, 0), max(max w, 0)
  // [1], a factor of every rounded weight, which is rounded to its element type before and after; null: 1.
  const float* outer_scale = nullptr;
};

// Null where not wanted.
struct AffineOutput {
  void* qdq;  // shape of the weight; rounded to the weight's element type, then converted
  Element qdq_type;
  void* scale;                   // [groups] in the scale's element type, times the outer scale
  float* zero_point;             // [groups], asymmetric only
  float* outer_scale = nullptr;  // [1], the input's
};

struct AffineCodes {
  uint8_t* codes;                // shape of the weight, 0 .. 2^bits - 1
  void* scale;                   // [groups]
  uint8_t* zero_point;           // [groups], asymmetric only
  float* outer_scale = nullptr;  // [1], the input's
};

using AffineGradient = OutputGradient;
using AffineGradients = TunableGradients;
using AffineStep = TunableStep;

// Sums over the elements of a span, from which the gradients of the range follow.
struct AffineSums {
  float direct;   // sum g * (q - zero_point - [inside] w / scale)
  float clipped;  // sum g over elements whose code was clamped
};

}  // namespace roundhouse::kernels
