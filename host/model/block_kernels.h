// SPDX-License-Identifier: Apache-2.0
// Kernels for the element-wise parts of a block, where the run's device has them; libtorch's operators do them elsewhere.
#pragma once

#include <ATen/core/Tensor.h>

#include <initializer_list>
#include <optional>

#include "host/model/kernels_of_cuda.h"

namespace roundhouse {

struct BlockKernelCall {
  const kernels::BlockKernels* kernels;
  kernels::Queue queue;
  kernels::Element type;
  // Throws std::runtime_error with what a kernel gave.
  void check(const char* failure) const;
};

// How to call them on tensors of one floating type on one device, on its current stream; nothing where there are none
// for such tensors, or one is not contiguous.
std::optional<BlockKernelCall> block_kernels(std::initializer_list<at::Tensor> tensors);

}  // namespace roundhouse
