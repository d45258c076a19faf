// SPDX-License-Identifier: Apache-2.0
// One layer's input in the data type "int": every group of every token has the range of its own elements.
#pragma once

#include <roundhouse/plugin.hpp>

#include "kernels/affine.h"

class IntActivation : public rh::Quantizer {
 public:
  explicit IntActivation(const rh_layer& layer);

  uint64_t workspace_size(int32_t operation, int32_t device_type, int64_t rows) const override;
  void forward(const rh_exec& exec, const rh_forward_args& args) override;
  void backward(const rh_exec& exec, const rh_backward_args& args) override;

 private:
  // The kernels' view of `tokens`, whose range is then in the workspace.
  roundhouse::kernels::AffineInput measure_range(const rh_exec& exec, const rh_tensor& tokens,
                                                 roundhouse::kernels::AffineLayer& layer) const;

  const roundhouse::kernels::AffineLayer layer_;  // of no rows: each call brings its own
};
