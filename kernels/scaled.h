// SPDX-License-Identifier: Apache-2.0
// Scaled small floats: W ~ scale * element. What the CPU and the CUDA kernels work on.
//
// A tensor [rows, cols] is cut into spans, the columns that one row gives to one group. A group is the spans of
// group_rows rows below each other: one span, a 2-D block, or the whole tensor. What is per group (largest magnitude,
// gradient sums) is reduced over its spans in a fixed order, so no result depends on how spans are dealt to threads.
#pragma once

#include "small_float.h"
#include "tuning.h"

namespace roundhouse::kernels {

// From a group's largest magnitude M to its scale.
enum class ScaleRule : int32_t {
  kUnit,   // 1
  kRatio,  // M / largest element
  kFloor,  // 2^(floor(log2 M) - emax)            (OCP Microscaling formats, 1.0)
  kCeil,   // 2^ceil(log2(M / divisor))
  kNvfp4,  // e4m3(G * M / 6) / G, where G = 448 * 6 / (largest magnitude of the whole tensor)
  kUe5m3,  // ue5m3(M / 6)
};

// The straight-through gradient of rounding to an element.
enum class ElementSlope : int32_t {
  kOne,
  kNonzero,   // 1, and 0 at 0
  kExponent,  // element / x: the exponent takes part, as a function of x. Below the normal numbers 1, and 0 at 0
};

struct ScaledLayer {
  int64_t rows, cols;
  int64_t group_rows;
  int64_t span_cols;  // of a full span; the last span of a row may be shorter
  SmallFloat element;
  ScaleRule rule;
  ElementSlope slope;
  bool signed_zero;     // a small negative number rounds to -0
  bool half_as_bfloat;  // float16 is first rounded to bfloat16
  float divisor;        // kCeil
  float smallest;       // kRatio: smallest scale, representable in its element type
  bool given;           // kRatio: `maximum` holds the scale itself; kNvfp4: `largest` holds G
  Element input;
  Element arithmetic;     // kRatio: type in which scale and quotient are computed
  Element scale;          // kRatio: type that holds the scale
  float range_limit = 1;  // of max_scale
};

KERNEL_FN int64_t scaled_spans_per_row(const ScaledLayer& layer) {
  return (layer.cols + layer.span_cols - 1) / layer.span_cols;
}
KERNEL_FN int64_t scaled_spans(const ScaledLayer& layer) { return layer.rows * scaled_spans_per_row(layer); }
KERNEL_FN int64_t scaled_groups(const ScaledLayer& layer) {
  return (layer.rows + layer.group_rows - 1) / layer.group_rows * scaled_spans_per_row(layer);
}

// v is [groups, group_rows, span_cols]; max_scale and maximum are [groups]. A null tunable has its initial value (0,
// 1).
struct ScaledInput {
  const void* input;
  const float *v, *max_scale;
  const float* maximum;  // largest magnitude of the group
  const float* largest;  // [1], of the whole tensor; kNvfp4 only
};

// Null where not wanted.
struct ScaledOutput {
  void* qdq;  // shape of the input; rounded to the input's element type, then converted
  Element qdq_type;
  void* scale;  // [groups], or [1] of kUnit: the scale; of kFloor and kCeil its exponent, of kNvfp4 G times the scale
  Element scale_type;
};

struct ScaledCodes {
  uint8_t* codes;  // shape of the input
  void* scale;     // [groups]; null of kUnit. kRatio: in layer.scale; kFloor, kCeil: e8m0; kNvfp4: e4m3; kUe5m3: ue5m3
  float* global_scale;  // [1], G; kNvfp4 only
};

// Searched scales: every group's maximum becomes the multiple of it with the least error, weighted with the importance
// of each column.
struct ScaledSearch {
  const float* importance;  // [cols] or null
  float* maximum;           // [groups], in and out
};
inline constexpr int kMaxSearchSpan = 32;  // columns of a span at most

// Sum over the elements of a span, from which the gradient of max_scale follows: g * (element - slope * quotient).
using ScaledSum = float;

}  // namespace roundhouse::kernels
