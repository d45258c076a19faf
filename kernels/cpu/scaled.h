// SPDX-License-Identifier: Apache-2.0
// The CPU kernels of scaled small floats, one table for each instruction set that this build has.
//
// Every function works on spans [begin, end) of a layer on the calling thread, and gives the same bits on each target.
#pragma once

#include <vector>

#include "kernels/scaled.h"

namespace roundhouse::kernels {

struct ScaledCpu {
  const char* name;  // "scalar", "avx2", "avx512"

  // The largest magnitude of each span, [spans]; NaN when an element is NaN or infinite.
  void (*maximum)(const ScaledLayer& layer, const void* input, float* maximum, int64_t begin, int64_t end);
  // group_rows 1 only.
  void (*search)(const ScaledLayer& layer, const ScaledInput& input, const ScaledSearch& search, int64_t begin,
                 int64_t end);
  void (*forward)(const ScaledLayer& layer, const ScaledInput& input, const ScaledOutput& output, int64_t begin,
                  int64_t end);
  // What forward rounds to, as codes.
  void (*encode)(const ScaledLayer& layer, const ScaledInput& input, const ScaledCodes& output, int64_t begin,
                 int64_t end);
  void (*decode)(const ScaledLayer& layer, const ScaledCodes& input, void* output, Element type, int64_t begin,
                 int64_t end);
  // The gradient of the input, in `type`; the groups' ranges count as constants.
  void (*input_gradient)(const ScaledLayer& layer, const ScaledInput& input, const OutputGradient& gradient,
                         void* output, Element type, int64_t begin, int64_t end);
  // With more than one row a group, `sums` [spans] takes each span's sum and scaled_finish_groups() must follow; else
  // it is not used.
  void (*backward)(const ScaledLayer& layer, const ScaledInput& input, const OutputGradient& gradient,
                   const TunableGradients& output, ScaledSum* sums, int64_t begin, int64_t end);
  // The tunables that `step` updates are also those that `input` reads.
  void (*sign_step)(const ScaledLayer& layer, const ScaledInput& input, const OutputGradient& gradient,
                    const TunableStep& step, ScaledSum* sums, int64_t begin, int64_t end);
};

// What this build has and this processor runs, from the slowest (scalar) to the fastest.
const std::vector<const ScaledCpu*>& scaled_cpu_targets();

// The fastest of them, or the one that the environment variable ROUNDHOUSE_CPU_TARGET names when it is there.
const ScaledCpu& scaled_cpu();

// The largest of n magnitudes; NaN when one is.
float largest_of(int64_t n, const float* maximum);

// More than one row a group: the groups' maxima from those of the spans, and the gradient (or the step) of max_scale
// from the spans' sums.
void scaled_group_maximum(const ScaledLayer& layer, const float* spans, float* groups);
void scaled_finish_groups(const ScaledLayer& layer, const ScaledInput& input, const ScaledSum* sums,
                          const TunableGradients& output);
void scaled_finish_groups(const ScaledLayer& layer, const ScaledInput& input, const ScaledSum* sums,
                          const TunableStep& step);

}  // namespace roundhouse::kernels
