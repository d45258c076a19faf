// SPDX-License-Identifier: Apache-2.0
// The host's tensors as libtorch's, and back.
#pragma once

#include <ATen/core/Tensor.h>

#include "host/base/tensor.h"

namespace roundhouse {

// Throw Error for an element type that the other side lacks.
at::ScalarType to_torch(DType dtype);
DType from_torch(at::ScalarType type);

// Both share the storage. from_torch takes contiguous tensors in host memory.
at::Tensor to_torch(const Tensor& tensor);
Tensor from_torch(const at::Tensor& tensor);

}  // namespace roundhouse
