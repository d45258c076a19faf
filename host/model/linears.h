// SPDX-License-Identifier: Apache-2.0
// The linear layers of a block, whose weights tuning replaces.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <vector>

#include "host/model/input_hook.h"
#include "host/model/rows.h"
#include "host/model/structure.h"

namespace roundhouse {

struct LinearSlot {
  LinearInfo info;
  at::Tensor weight;  // [out, in]
  at::Tensor bias;    // [out], or undefined
};

// Takes x [tokens, in] and dy [tokens, out], of which the gradient of a linear's weight is dy^T x.
using WeightGradientHook = std::function<void(const LinearInfo& linear, Rows x, Rows dy)>;

struct Linears {
  std::vector<LinearSlot> slots;
  InputHook input_hook;
  WeightGradientHook expert_gradient_hook;  // of experts, whose weights then get no gradient of backward()

  at::Tensor operator()(size_t slot, const at::Tensor& input) const { return apply(slot, input, input_hook); }
  // gathered: expert_gradient_hook gets the gradient's factors, as rows of what it knows.
  at::Tensor apply(size_t slot, const at::Tensor& input, const InputHook& hook,
                   const std::shared_ptr<GatheredRows>& gathered = nullptr) const;
};

}  // namespace roundhouse
