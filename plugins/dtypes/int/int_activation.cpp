#include "int_activation.h"

#include <sstream>

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
#if defined(ROUNDHOUSE_WITH_CUDA)
  info_.flags = RH_QUANTIZER_CAPTURABLE;
#endif
  std::ostringstream parameters;
  parameters << R"({"bits": )" << layer_.bits << R"(, "group_cols": )" << layer_.span_cols
             << R"(, "group_rows": 1, "symmetric": )" << (layer_.symmetric ? "true" : "false")
             << R"(, "dynamic": true})";
  encoding_.id = RH_ENCODING_AFFINE_INT;
  encoding_parameters_ = parameters.str();
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
