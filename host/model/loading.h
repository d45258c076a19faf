// SPDX-License-Identifier: Apache-2.0
// A decoder's tensors, as they come from a checkpoint.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>
#include <string>

#include "host/base/tensor.h"
#include "host/model/structure.h"

namespace roundhouse {

// Throws Error when the tensor has another shape, is not floating-point, or holds what is not finite.
at::Tensor load_checked(TensorSource& source, const std::string& name, at::IntArrayRef shape);

// Loads a tensor of this shape in the type and onto the device of who asks.
using Loader = std::function<at::Tensor(const std::string& name, at::IntArrayRef shape)>;

// Not differentiable in its weight and bias.
struct LoadedNorm {
  NormInfo info;
  at::Tensor weight, bias;
  at::Tensor operator()(const at::Tensor& x) const;
};
std::optional<LoadedNorm> load_norm(const std::optional<NormInfo>& info, const Loader& load);

}  // namespace roundhouse
