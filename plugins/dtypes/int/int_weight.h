// SPDX-License-Identifier: Apache-2.0
// One layer's weight in the data type "int".
#pragma once

#include "plugins/dtypes/lib/affine/affine_quantizer.h"

// What the kernels know of a layer's weight or input. Throws rh::Error, with what would work, for what int cannot do.
roundhouse::kernels::AffineLayer int_layer(const rh_layer& layer);

class IntWeight : public AffineQuantizer {
 public:
  explicit IntWeight(const rh_layer& layer);

  // Searched rounding makes the range that which the best scale has.
  void prepare(const rh_exec& exec, const rh_prepare_args& args) override;

 private:
  const bool searches_;
};
