#include "host/tuning/torch_view.h"

#include <utility>

#include "host/base/error.h"
#include "host/base/tensor.h"

namespace roundhouse {
namespace {

constexpr std::pair<DType, at::ScalarType> kTypes[] = {
    {DType::kF64, at::kDouble},      {DType::kF32, at::kFloat},         {DType::kF16, at::kHalf},
    {DType::kBF16, at::kBFloat16},   {DType::kI64, at::kLong},          {DType::kI32, at::kInt},
    {DType::kI16, at::kShort},       {DType::kI8, at::kChar},           {DType::kU8, at::kByte},
    {DType::kBool, at::kBool},       {DType::kF8E4M3, at::kFloat8_e4m3fn}, {DType::kF8E5M2, at::kFloat8_e5m2},
    {DType::kF8E8M0, at::kFloat8_e8m0fnu},
};

}  // namespace

at::ScalarType to_torch_type(rh_data_type dtype) {
  const DType known = from_rh(dtype);
  for (const auto& [ours, torch] : kTypes)
    if (ours == known) return torch;
  throw Error(cat("libtorch has no element type ", config_name(known)));
}

rh_data_type from_torch_type(at::ScalarType type) {
  for (const auto& [ours, torch] : kTypes)
    if (torch == type) return to_rh(ours);
  throw Error(cat("the element type ", at::toString(type), " cannot cross to a plugin"));
}

Views::Views(const std::vector<at::Tensor>& tensors) : views_(tensors.size()), pointers_(tensors.size()) {
  for (size_t i = 0; i < tensors.size(); ++i) {
    const at::Tensor& t = tensors[i];
    if (!t.defined()) continue;
    views_[i].data = t.numel() ? t.data_ptr() : nullptr;
    views_[i].device = t.is_cuda() ? rh_device{RH_DEVICE_CUDA, t.get_device()} : rh_device{RH_DEVICE_CPU, 0};
    views_[i].ndim = static_cast<int32_t>(t.dim());
    views_[i].dtype = from_torch_type(t.scalar_type());
    views_[i].shape = const_cast<int64_t*>(t.sizes().data());
    pointers_[i] = &views_[i];
  }
  const_pointers_.assign(pointers_.begin(), pointers_.end());
}

at::Tensor allocate(const rh_tensor_spec& spec, at::Device device) {
  return at::empty(at::IntArrayRef(spec.shape, spec.ndim), at::TensorOptions(to_torch_type(spec.dtype)).device(device));
}

}  // namespace roundhouse
