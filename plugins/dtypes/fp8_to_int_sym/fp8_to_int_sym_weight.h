// SPDX-License-Identifier: Apache-2.0
// One layer's weight in the data type "fp8_to_int_sym".
#pragma once

#include "plugins/dtypes/lib/affine/affine_quantizer.h"

// What the kernels know of the second step. Throws rh::Error, with what would work, for what the data type cannot do.
roundhouse::kernels::AffineLayer fp8_to_int_layer(const rh_layer& layer);

class Fp8ToIntWeight : public AffineQuantizer {
 public:
  explicit Fp8ToIntWeight(const rh_layer& layer);

  uint64_t workspace_size(int32_t operation, int32_t device_type, int64_t rows) const override;
  // The first step, and the ranges of the second.
  void prepare(const rh_exec& exec, const rh_prepare_args& args) override;

 private:
  const float max_scale_;
};
