// SPDX-License-Identifier: Apache-2.0
// The linear layers of a block, whose weights tuning replaces.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "host/model/input_hook.h"
#include "host/model/structure.h"

namespace roundhouse {

struct LinearSlot {
  LinearInfo info;
  at::Tensor weight;  // [out, in]
  at::Tensor bias;    // [out], or undefined
};

struct Linears {
  std::vector<LinearSlot> slots;
  InputHook input_hook;
  InputHook expert_hook;  // of experts' linears: they are applied to all tokens, and what comes of it is dropped

  at::Tensor operator()(size_t slot, const at::Tensor& input) const { return apply(slot, input, input_hook); }
  at::Tensor apply(size_t slot, const at::Tensor& input, const InputHook& hook) const;
};

}  // namespace roundhouse
