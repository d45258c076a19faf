// Tensors in another floating type, for comparing.
#pragma once

#include "host/base/tensor.h"
#include "kernels/floats.h"

namespace roundhouse {

inline kernels::Element element_of(DType dtype) {
  return dtype == DType::kF32 ? kernels::Element::kF32
                              : dtype == DType::kF16 ? kernels::Element::kF16 : kernels::Element::kBF16;
}

// Both types: f32, f16 or bf16.
inline Tensor converted(const Tensor& tensor, DType dtype) {
  Tensor out(dtype, tensor.shape());
  for (int64_t i = 0; i < tensor.elements(); ++i)
    kernels::store_element(element_of(dtype), out.data(), i,
                           kernels::load_element(element_of(tensor.dtype()), tensor.data(), i));
  return out;
}

}  // namespace roundhouse
