// SPDX-License-Identifier: Apache-2.0
// Roundhouse SDK: tensors and their declarations.
// A helper, no part of the ABI. C++17, no dependency.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "encoding.h"
#include "tensor.h"

namespace rh {

constexpr rh_data_type kF32{RH_KIND_FLOAT, 32, 1};
constexpr rh_data_type kF16{RH_KIND_FLOAT, 16, 1};
constexpr rh_data_type kBF16{RH_KIND_BFLOAT, 16, 1};
constexpr rh_data_type kU8{RH_KIND_UINT, 8, 1};
constexpr rh_data_type kI8{RH_KIND_INT, 8, 1};
constexpr rh_data_type kI32{RH_KIND_INT, 32, 1};
constexpr rh_data_type kI64{RH_KIND_INT, 64, 1};

inline bool same_type(rh_data_type a, rh_data_type b) {
  return a.kind == b.kind && a.bits == b.bits && a.lanes == b.lanes;
}
inline int64_t elements(const rh_tensor& t) {
  int64_t n = 1;
  for (int32_t i = 0; i < t.ndim; ++i) n *= t.shape[i];
  return n;
}
inline uint64_t bytes(const rh_tensor& t) { return (static_cast<uint64_t>(elements(t)) * t.dtype.bits + 7) / 8; }
template <typename T>
T* data(const rh_tensor& t) {
  return static_cast<T*>(t.data);
}
template <typename T>
T* data_or_null(const rh_tensor* t) {
  return t ? static_cast<T*>(t->data) : nullptr;
}
// Element `i` of an optional array of optional tensors.
inline rh_tensor* at(rh_tensor* const* tensors, size_t i) { return tensors ? tensors[i] : nullptr; }
inline const rh_tensor* at(const rh_tensor* const* tensors, size_t i) { return tensors ? tensors[i] : nullptr; }

// A contiguous CPU tensor view over memory of the plugin's own.
class View {
 public:
  View(void* data, rh_data_type dtype, std::vector<int64_t> shape) : shape_(std::move(shape)) {
    tensor_ =
        rh_tensor{data, {RH_DEVICE_CPU, 0}, static_cast<int32_t>(shape_.size()), dtype, shape_.data(), nullptr, 0};
  }
  View(const View&) = delete;
  View& operator=(const View&) = delete;
  const rh_tensor* get() const { return &tensor_; }

 private:
  std::vector<int64_t> shape_;
  rh_tensor tensor_;
};

// A list of tensor declarations that hands out the C array.
class Specs {
 public:
  rh_tensor_spec& add(const char* name, rh_data_type dtype, std::initializer_list<int64_t> shape) {
    auto spec = std::make_unique<rh_tensor_spec>();
    *spec = rh_tensor_spec{};
    spec->struct_size = sizeof(rh_tensor_spec);
    spec->name = name;
    spec->dtype = dtype;
    for (int64_t n : shape) spec->shape[spec->ndim++] = n;
    spec->clamp_min = -std::numeric_limits<double>::infinity();
    spec->clamp_max = std::numeric_limits<double>::infinity();
    pointers_.push_back(spec.get());
    owned_.push_back(std::move(spec));
    return *owned_.back();
  }
  uint32_t count() const { return static_cast<uint32_t>(pointers_.size()); }
  const rh_tensor_spec* const* data() const { return pointers_.data(); }
  const rh_tensor_spec& operator[](size_t i) const { return *pointers_[i]; }

 private:
  std::vector<std::unique_ptr<rh_tensor_spec>> owned_;
  std::vector<const rh_tensor_spec*> pointers_;
};

}  // namespace rh
