// SPDX-License-Identifier: Apache-2.0
// The kernels' element types and the SDK's.
#pragma once

#include <roundhouse/plugin.hpp>
#include <string>

#include "kernels/floats.h"

inline roundhouse::kernels::Element element_of(rh_data_type type, const char* what) {
  using roundhouse::kernels::Element;
  if (rh::same_type(type, rh::kF32)) return Element::kF32;
  if (rh::same_type(type, rh::kF16)) return Element::kF16;
  if (rh::same_type(type, rh::kBF16)) return Element::kBF16;
  throw rh::Error(RH_INVALID_ARGUMENT, std::string(what) + " must be float32, float16 or bfloat16");
}

inline const char* name_of(roundhouse::kernels::Element e) {
  using roundhouse::kernels::Element;
  return e == Element::kF32 ? "float32" : e == Element::kF16 ? "float16" : "bfloat16";
}

inline rh_data_type type_of(roundhouse::kernels::Element e) {
  using roundhouse::kernels::Element;
  return e == Element::kF32 ? rh::kF32 : e == Element::kF16 ? rh::kF16 : rh::kBF16;
}

// The data of element `i` of an optional array of optional tensors.
template <typename T>
T* optional_data(rh_tensor* const* tensors, size_t i) {
  return rh::data_or_null<T>(rh::at(tensors, i));
}
