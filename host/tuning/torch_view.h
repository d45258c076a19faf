// SPDX-License-Identifier: Apache-2.0
// libtorch tensors as the plugins see them.
#pragma once

#include <ATen/ATen.h>
#include <roundhouse/encoding.h>

#include <vector>

namespace roundhouse {

// Views of tensors, with the arrays of pointers that the ABI's argument structs want. Undefined tensors become NULL.
// Borrows the tensors: they must be contiguous and outlive this object.
class Views {
 public:
  explicit Views(const std::vector<at::Tensor>& tensors);
  explicit Views(const at::Tensor& tensor) : Views(std::vector<at::Tensor>{tensor}) {}

  const rh_tensor* const* in() const { return const_pointers_.data(); }
  const rh_tensor* const* in_or_null() const { return views_.empty() ? nullptr : in(); }
  rh_tensor* const* out() const { return pointers_.data(); }
  const rh_tensor* one() const { return pointers_.front(); }
  rh_tensor* one_out() const { return pointers_.front(); }

 private:
  std::vector<rh_tensor> views_;
  std::vector<rh_tensor*> pointers_;
  std::vector<const rh_tensor*> const_pointers_;
};

// A device as plugins see it.
rh_device rh_device_of(at::Device device);

// Throws Error for an element type that libtorch lacks.
at::Tensor allocate(const rh_tensor_spec& spec, at::Device device);

}  // namespace roundhouse
