// SPDX-License-Identifier: Apache-2.0
// The CPU kernels of affine integer quantization, one table for each instruction set that this build has.
//
// Every function works on spans [begin, end) of a layer on the calling thread, and gives the same bits on each target.
#pragma once

#include <vector>

#include "kernels/affine.h"
#include "kernels/affine_search.h"

namespace roundhouse::kernels {

struct AffineCpu {
  const char* name;  // "scalar", "avx2", "avx512"

  // min(min w, 0) and max(max w, 0) of each span, [spans] each; NaN and NaN when an element is NaN or infinite.
  void (*range)(const AffineLayer& layer, const void* weight, float* low, float* high, int64_t begin, int64_t end);
  void (*forward)(const AffineLayer& layer, const AffineInput& input, const AffineOutput& output, int64_t begin,
                  int64_t end);
  // What forward rounds to, as codes.
  void (*encode)(const AffineLayer& layer, const AffineInput& input, const AffineCodes& output, int64_t begin,
                 int64_t end);
  void (*decode)(const AffineLayer& layer, const AffineCodes& input, void* output, Element type, int64_t begin,
                 int64_t end);
  // With one group for the whole tensor, `sums` [spans] takes each span's sums and affine_finish_tensor() must follow;
  // else it is not used.
  void (*backward)(const AffineLayer& layer, const AffineInput& input, const AffineGradient& gradient,
                   const AffineGradients& output, AffineSums* sums, int64_t begin, int64_t end);
  // The tunables that `step` updates are also those that `input` reads.
  void (*sign_step)(const AffineLayer& layer, const AffineInput& input, const AffineGradient& gradient,
                    const AffineStep& step, AffineSums* sums, int64_t begin, int64_t end);
  // The gradient of what was rounded, when its range was its own (an activation's, in groups within a row): through
  // rounding and through the range, to the first of the smallest and of the largest elements. `output`: of the input's
  // shape and element type.
  void (*input_gradient)(const AffineLayer& layer, const AffineInput& input, const AffineGradient& gradient,
                         void* output, int64_t begin, int64_t end);
  // Symmetric groups within a row: the range [spans], given as range() finds it, becomes that from which the best scale
  // follows. A NaN stays.
  void (*search)(const AffineLayer& layer, const AffineSearch& input, float* low, float* high, int64_t begin,
                 int64_t end);
};

// What this build has and this processor runs, from the slowest (scalar) to the fastest.
const std::vector<const AffineCpu*>& affine_cpu_targets();

// The fastest of them, or the one that the environment variable ROUNDHOUSE_CPU_TARGET names when it is there.
const AffineCpu& affine_cpu();

// The range that n ranges lie in; NaN and NaN when one of them is.
void range_of_ranges(int64_t n, const float* lows, const float* highs, float* low, float* high);

// One group for the whole tensor: the gradients (or the step) of min_scale and max_scale from the sums of `layer`'s
// spans.
void affine_finish_tensor(const AffineLayer& layer, const AffineInput& input, const AffineSums* sums,
                          const AffineGradients& output);
void affine_finish_tensor(const AffineLayer& layer, const AffineInput& input, const AffineSums* sums,
                          const AffineStep& step);

}  // namespace roundhouse::kernels
