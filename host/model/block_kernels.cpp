// SPDX-License-Identifier: Apache-2.0
#include "host/model/block_kernels.h"

#include <ATen/ATen.h>

#include <stdexcept>

#include "host/base/error.h"
#include "host/model/accelerator.h"

namespace roundhouse {
namespace {

std::optional<kernels::Element> element_of(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return kernels::Element::kF32;
    case at::kHalf:
      return kernels::Element::kF16;
    case at::kBFloat16:
      return kernels::Element::kBF16;
    default:
      return {};
  }
}

}  // namespace

void BlockKernelCall::check(const char* failure) const {
  if (failure) throw std::runtime_error(cat("a kernel on cuda:", queue.device, " failed: ", failure));
}

std::optional<BlockKernelCall> block_kernels(std::initializer_list<at::Tensor> tensors) {
  const at::Tensor& first = *tensors.begin();
  const at::Device device = first.device();
  const auto type = element_of(first.scalar_type());
  if (!kernels_of_cuda || device.type() != cuda_of_plugins || !type) return {};
  for (const at::Tensor& tensor : tensors)
    if (tensor.scalar_type() != first.scalar_type() || tensor.device() != device || !tensor.is_contiguous()) return {};
  return BlockKernelCall{kernels_of_cuda, {device.index(), stream_of(device)}, *type};
}

}  // namespace roundhouse
