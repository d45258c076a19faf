// The tensors that a data type emitted, and the weights that a format computes from stored ones.
#pragma once

#include <roundhouse/plugin.hpp>
#include <vector>

#include "kernels/floats.h"

namespace roundhouse::formats {

// The encoding's tensor of that name, or nullptr.
const rh_tensor* find_tensor(const rh_encoded_layer& layer, const char* name);
// Throws rh::Error when it is missing or has another number of elements.
const rh_tensor& require_tensor(const rh_encoded_layer& layer, const char* name, int64_t elements);

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

}  // namespace roundhouse::formats
