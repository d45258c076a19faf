// SPDX-License-Identifier: Apache-2.0
// A quantized layer on its way to the formats.
#pragma once

#include <roundhouse/encoding.h>

#include <functional>
#include <vector>

#include "host/base/tensor.h"
#include "host/plan/plan.h"

namespace roundhouse {

// Borrowed for the call that receives it. What `encoding` and `decode` need lives as long as `decode` or longer.
struct EncodedLayer {
  // Writes the weight that `tensors` mean to `output`, [out_features, in_features].
  using Decode = std::function<void(const rh_tensor* const* tensors, rh_tensor& output)>;

  const LayerPlan& plan;
  const rh_encoding& encoding;
  std::vector<Tensor> tensors;  // as the encoding declares them
  Tensor bias;                  // [out_features], or undefined
  Decode decode;
  const rh_encoding* activation_encoding = nullptr;  // nullptr: its input is not quantized
  std::vector<Tensor> activation_tensors = {};       // as that declares them
};

}  // namespace roundhouse
