// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/torch_view.h"

#include "host/model/accelerator.h"
#include "host/model/torch_tensor.h"

namespace roundhouse {
Views::Views(const std::vector<at::Tensor>& tensors) : views_(tensors.size()), pointers_(tensors.size()) {
  for (size_t i = 0; i < tensors.size(); ++i) {
    const at::Tensor& t = tensors[i];
    if (!t.defined()) continue;
    views_[i].data = t.numel() ? t.data_ptr() : nullptr;
    views_[i].device = rh_device_of(t.device());
    views_[i].ndim = static_cast<int32_t>(t.dim());
    views_[i].dtype = to_rh(from_torch(t.scalar_type()));
    views_[i].shape = const_cast<int64_t*>(t.sizes().data());
    pointers_[i] = &views_[i];
  }
  const_pointers_.assign(pointers_.begin(), pointers_.end());
}

rh_device rh_device_of(at::Device device) {
  return device.type() == cuda_of_plugins ? rh_device{RH_DEVICE_CUDA, device.index()} : rh_device{RH_DEVICE_CPU, 0};
}

at::Tensor allocate(const rh_tensor_spec& spec, at::Device device) {
  return at::empty(at::IntArrayRef(spec.shape, spec.ndim),
                   at::TensorOptions(to_torch(from_rh(spec.dtype))).device(device));
}

}  // namespace roundhouse
