// The tensors that a data type emitted, and the weights that a format computes from stored ones.
#pragma once

#include <algorithm>
#include <roundhouse/files.hpp>
#include <vector>

#include "kernels/floats.h"

namespace roundhouse::formats {

using rh::find_tensor;
using rh::require_tensor;

// Element `i` of an f32, f16 or bf16 tensor.
float element(const rh_tensor& tensor, int64_t i);
// `values` in an element type of f32, f16 or bf16, rounded to nearest.
std::vector<uint8_t> rounded(const std::vector<float>& values, rh_data_type dtype);

// Calls body(T* output, convert), where convert turns a float into an element of `output` (f32, f16 or bf16).
template <typename Body>
void write_weights(rh_tensor& output, Body&& body) {
  if (rh::same_type(output.dtype, rh::kF32)) {
    body(rh::data<float>(output), [](float x) { return x; });
  } else if (rh::same_type(output.dtype, rh::kF16)) {
    body(rh::data<uint16_t>(output), [](float x) { return kernels::half_from_float(x); });
  } else if (rh::same_type(output.dtype, rh::kBF16)) {
    body(rh::data<uint16_t>(output), [](float x) { return kernels::bfloat_from_float(x); });
  } else {
    throw rh::Error(RH_INVALID_ARGUMENT, "a layer is read as f32, f16 or bf16");
  }
}

// Writes weight_of(group)(i) for every element i of `output`, [rows, cols] of f32, f16 or bf16, on the host's threads.
// Its group is one of group_rows x group_cols weights, counted along the rows; the last ones may be smaller.
template <typename WeightOf>
void write_groups(rh_tensor& output, int64_t group_rows, int64_t group_cols, WeightOf&& weight_of) {
  const int64_t rows = output.shape[0], cols = output.shape[1];
  const int64_t groups = (cols + group_cols - 1) / group_cols;
  write_weights(output, [&](auto* weights, auto convert) {
    rh::parallel_for(rows, 16, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        for (int64_t g = 0; g < groups; ++g) {
          const auto weight = weight_of(r / group_rows * groups + g);
          const int64_t last = r * cols + std::min(cols, (g + 1) * group_cols);
          for (int64_t i = r * cols + g * group_cols; i < last; ++i) weights[i] = convert(weight(i));
        }
      }
    });
  });
}

}  // namespace roundhouse::formats
