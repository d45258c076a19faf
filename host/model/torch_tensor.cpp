// SPDX-License-Identifier: Apache-2.0
#include "host/model/torch_tensor.h"

#include <ATen/ATen.h>

#include <stdexcept>
#include <utility>

#include "host/base/error.h"

namespace roundhouse {
namespace {

constexpr std::pair<DType, at::ScalarType> kTypes[] = {{DType::kF64, at::kDouble},
                                                       {DType::kF32, at::kFloat},
                                                       {DType::kF16, at::kHalf},
                                                       {DType::kBF16, at::kBFloat16},
                                                       {DType::kI64, at::kLong},
                                                       {DType::kI32, at::kInt},
                                                       {DType::kI16, at::kShort},
                                                       {DType::kI8, at::kChar},
                                                       {DType::kU8, at::kByte},
                                                       {DType::kBool, at::kBool},
                                                       {DType::kF8E4M3, at::kFloat8_e4m3fn},
                                                       {DType::kF8E5M2, at::kFloat8_e5m2},
                                                       {DType::kF8E8M0, at::kFloat8_e8m0fnu}};

}  // namespace

at::ScalarType to_torch(DType dtype) {
  for (const auto& [ours, theirs] : kTypes)
    if (ours == dtype) return theirs;
  throw Error(cat("libtorch has no element type ", config_name(dtype)));
}

DType from_torch(at::ScalarType type) {
  for (const auto& [ours, theirs] : kTypes)
    if (theirs == type) return ours;
  throw Error(cat("the host has no element type for libtorch's ", at::toString(type)));
}

at::Tensor to_torch(const Tensor& tensor) {
  return at::from_blob(
      tensor.data(), tensor.shape(), [keep = tensor.storage()](void*) {}, at::TensorOptions(to_torch(tensor.dtype())));
}

Tensor from_torch(const at::Tensor& tensor) {
  if (!tensor.is_cpu() || !tensor.is_contiguous())
    throw std::logic_error("from_torch: the tensor is not contiguous in host memory");
  return Tensor(from_torch(tensor.scalar_type()), tensor.sizes().vec(), tensor.data_ptr(),
                std::make_shared<at::Tensor>(tensor));
}

}  // namespace roundhouse
