// SPDX-License-Identifier: Apache-2.0
#include "int_activation.h"

#include <roundhouse/encoding/affine_int.hpp>

#include "int_weight.h"
#include "plugins/dtypes/lib/affine/affine_check.h"
#include "plugins/dtypes/lib/affine/affine_run.h"

using namespace roundhouse::kernels;

IntActivation::IntActivation(const rh_layer& layer)
    : layer_([&] {
        AffineLayer out = int_layer(layer);
        out.plus_zero = true;
        return out;
      }()) {
  rh::AffineInt made(layer_.bits, layer_.symmetric, 1, layer_.span_cols, RH_INPUT_DYNAMIC);
  made.mirrored = layer_.mirrored;
  encoding_ = rh::Encoding(made, 0, 0);
}

uint64_t IntActivation::workspace_size(int32_t /*operation*/, int32_t /*device_type*/, int64_t rows) const {
  return static_cast<uint64_t>(rows * affine_spans_per_row(layer_)) * 2 * sizeof(float);
}

AffineInput IntActivation::measure_range(const rh_exec& exec, const rh_tensor& tokens, AffineLayer& layer) const {
  layer.rows = rh::elements(tokens) / layer.cols;
  auto* low = static_cast<float*>(exec.workspace);
  float* high = low + affine_groups(layer);
  run_range(exec, layer, tokens.data, low, high);
  return {tokens.data, nullptr, nullptr, nullptr, low, high};
}

void IntActivation::forward(const rh_exec& exec, const rh_forward_args& args) {
  AffineLayer layer = layer_;
  const AffineInput input = measure_range(exec, *args.input, layer);
  run_forward(exec, layer, input, {args.output->data, element_of(args.output->dtype, "the output"), nullptr, nullptr});
}

void IntActivation::backward(const rh_exec& exec, const rh_backward_args& args) {
  if (!args.grad_input) return;
  rh::require(rh::same_type(args.grad_input->dtype, args.input->dtype),
              "the gradient of an activation has the activation's element type");
  AffineLayer layer = layer_;
  const AffineInput input = measure_range(exec, *args.input, layer);
  run_input_gradient(exec, layer, input, {args.grad_output->data, element_of(args.grad_output->dtype, "the gradient")},
                     args.grad_input->data);
}
