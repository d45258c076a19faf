// SPDX-License-Identifier: Apache-2.0
#include "plugins/dtypes/lib/affine/affine_quantizer.h"

#include <algorithm>
#include <cmath>
#include <roundhouse/encoding/affine_int.hpp>
#include <sstream>

#include "kernels/affine_math.h"
#include "kernels/cpu/affine.h"
#include "plugins/dtypes/lib/affine/affine_check.h"
#include "plugins/dtypes/lib/affine/affine_run.h"
#include "plugins/dtypes/lib/element_types.h"

using namespace roundhouse::kernels;

namespace {

// Order of the tunables, results and encoded tensors.
enum { kV, kMinScale, kMaxScale };
enum { kScale, kZeroPoint, kOuterResult = kZeroPoint };
enum { kCodes, kCodesScale, kCodesZeroPoint, kCodesOuterScale = kCodesZeroPoint };

// Any tunable makes the arithmetic float32.
AffineLayer with_arithmetic(AffineLayer layer, const AffineInput& input) {
  layer.tuned = input.v || input.min_scale || input.max_scale;
  return layer;
}

}  // namespace

AffineQuantizer::AffineQuantizer(const rh_layer& layer, const AffineLayer& kernel_layer, bool progressive)
    : name_(layer.name), layer_(kernel_layer), progressive_(progressive) {
  const int64_t groups = affine_groups(layer_);
  const int64_t group_size = layer_.whole_tensor ? layer_.rows * layer_.cols : layer_.span_cols;
  if (!layer_.whole_tensor && !progressive_) info_.flags |= RH_QUANTIZER_ROWS_INDEPENDENT;

  tunables_.add("v", rh::kF32, {groups, group_size}).lr_group = RH_LR_ROUNDING;
  for (const char* name : {"min_scale", "max_scale"}) {
    rh_tensor_spec& spec = tunables_.add(name, rh::kF32, {groups});
    spec.lr_group = RH_LR_RANGE;
    spec.initial = 1;
    spec.clamp_min = 0;
    spec.clamp_max = layer_.range_limit;
  }
  states_.add("minimum", rh::kF32, {groups});
  states_.add("maximum", rh::kF32, {groups});
  if (progressive_) {
    states_.add("rounded", type_of(layer_.weight), {layer_.rows, layer_.cols});
    states_.add("outer_scale", rh::kF32, {1});
    results_.add("scale.scale", type_of(layer_.scale), {groups, 1});
    results_.add("scale.bf16_to_fp8_scale", rh::kF32, {});
  } else {
    results_.add("scale", type_of(layer_.scale), {groups, 1});
    if (!layer_.symmetric) results_.add("zp", rh::kF32, {groups, 1});
  }

  rh::AffineInt made(layer_.bits, layer_.symmetric, layer_.whole_tensor ? layer_.rows : 1, layer_.span_cols);
  made.scale = type_of(layer_.scale);
  made.outer_scale = progressive_;
  encoding_ = rh::Encoding(made, layer_.rows, layer_.cols);
}

AffineInput AffineQuantizer::input_of(const rh_tensor* weight, const rh_tensor* const* tunables,
                                      const rh_tensor* const* states) const {
  const auto data = [](const rh_tensor* t) { return rh::data_or_null<const float>(t); };
  return {progressive_ ? states[kRounded]->data : weight->data,
          data(rh::at(tunables, kV)),
          data(rh::at(tunables, kMinScale)),
          data(rh::at(tunables, kMaxScale)),
          data(states[kLow]),
          data(states[kHigh]),
          progressive_ ? data(states[kOuterScale]) : nullptr};
}

AffineCodes AffineQuantizer::codes_of(rh_tensor* const* tensors) const {
  return {rh::data<uint8_t>(*tensors[kCodes]), tensors[kCodesScale]->data,
          layer_.symmetric ? nullptr : rh::data<uint8_t>(*tensors[kCodesZeroPoint]),
          progressive_ ? rh::data<float>(*tensors[kCodesOuterScale]) : nullptr};
}

// One group for the whole tensor: what each row contributes is reduced in a second step.
uint64_t AffineQuantizer::workspace_size(int32_t operation, int32_t /*device_type*/, int64_t rows) const {
  const bool reduces = operation == RH_OP_PREPARE || operation == RH_OP_BACKWARD || operation == RH_OP_SIGN_STEP;
  return layer_.whole_tensor && reduces ? static_cast<uint64_t>(rows) * sizeof(AffineSums) : 0;
}

void AffineQuantizer::find_range(const rh_exec& exec, const void* weight, float* low, float* high) const {
  run_range(exec, layer_, weight, low, high);
  if (!checks_on_cuda(exec, layer_, low, high)) check_range(low, high);
}

void AffineQuantizer::check_range(const float* low, const float* high) const {
  const int64_t per_row = affine_spans_per_row(layer_), groups = affine_groups(layer_);
  const auto fits = [&](float least, float most) {
    return std::isfinite(affine_group(layer_, least, most, 1.0f, 1.0f).scale);
  };
  float lowest, highest;
  range_of_ranges(groups, low, high, &lowest, &highest);
  const bool all_fit = fits(lowest, highest);  // scales grow with the ranges
  for (int64_t i = 0; !all_fit && i < groups; ++i) {
    if (fits(low[i], high[i])) continue;
    std::ostringstream message;
    message << name_ << ": ";
    if (layer_.whole_tensor)
      message << "the weight";
    else
      message << "the weight in row " << i / per_row << ", columns " << i % per_row * layer_.span_cols << " to "
              << std::min(layer_.cols, (i % per_row + 1) * layer_.span_cols) - 1 << ",";
    if (std::isnan(low[i]))
      message << " holds NaN or infinity: the checkpoint is damaged";
    else
      message << " ranges from " << low[i] << " to " << high[i] << ", which needs a scale beyond "
              << name_of(layer_.scale) << ": set scale_dtype to bfloat16 or float32";
    throw rh::Error(RH_INVALID_ARGUMENT, message.str());
  }
}

void AffineQuantizer::forward(const rh_exec& exec, const rh_forward_args& args) {
  const AffineInput input = input_of(args.input, args.tunables, args.states);
  const AffineOutput output{args.output->data, element_of(args.output->dtype, "the output"),
                            optional_data<void>(args.results, kScale),
                            layer_.symmetric ? nullptr : optional_data<float>(args.results, kZeroPoint),
                            progressive_ ? optional_data<float>(args.results, kOuterResult) : nullptr};
  run_forward(exec, with_arithmetic(layer_, input), input, output);
}

void AffineQuantizer::backward(const rh_exec& exec, const rh_backward_args& args) {
  if (args.grad_input) throw rh::Error(RH_UNIMPLEMENTED, "there is no gradient of the weight itself");
  const AffineInput input = input_of(args.input, args.tunables, args.states);
  const AffineGradient gradient{args.grad_output->data, element_of(args.grad_output->dtype, "the gradient")};
  run_backward(exec, with_arithmetic(layer_, input), input, gradient,
               {optional_data<float>(args.grad_tunables, kV), optional_data<float>(args.grad_tunables, kMinScale),
                optional_data<float>(args.grad_tunables, kMaxScale)});
}

void AffineQuantizer::sign_step(const rh_exec& exec, const rh_sign_step_args& args) {
  const AffineInput input = input_of(args.input, args.tunables, args.states);
  const AffineGradient gradient{args.grad_output->data, element_of(args.grad_output->dtype, "the gradient")};
  run_sign_step(exec, with_arithmetic(layer_, input), input, gradient,
                {optional_data<float>(args.tunables, kV), optional_data<float>(args.tunables, kMinScale),
                 optional_data<float>(args.tunables, kMaxScale), rh::data<float>(*args.learning_rates[RH_LR_ROUNDING]),
                 rh::data<float>(*args.learning_rates[RH_LR_RANGE]), layer_.range_limit});
}

void AffineQuantizer::encode(const rh_exec& exec, const rh_encode_args& args) {
  const AffineInput input = input_of(args.input, args.tunables, args.states);
  run_encode(exec, with_arithmetic(layer_, input), input, codes_of(args.tensors));
}

void AffineQuantizer::decode(const rh_exec& exec, const rh_decode_args& args) {
  run_decode(exec, layer_, codes_of(const_cast<rh_tensor* const*>(args.tensors)), args.output->data,
             element_of(args.output->dtype, "the output"));
}
