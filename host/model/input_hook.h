// SPDX-License-Identifier: Apache-2.0
// Changing the inputs of linear layers while a model runs.
#pragma once

#include <functional>

#include "host/model/structure.h"

namespace at {
class Tensor;
}

namespace roundhouse {

// Called with a linear and its input [..., in]; returns the input to use instead. Linears that read the same input are
// given the same tensor. Those who only hand a hook on need no libtorch.
using InputHook = std::function<at::Tensor(const LinearInfo& linear, const at::Tensor& input)>;

}  // namespace roundhouse
