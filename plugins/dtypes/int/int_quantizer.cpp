#include "int_quantizer.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "affine_run.h"
#include "kernels/affine_math.h"
#include "plugins/dtypes/common/element_types.h"

using namespace roundhouse::kernels;

namespace {

// Order of the tunables, states, results and encoded tensors.
enum { kV, kMinScale, kMaxScale };
enum { kLow, kHigh };
enum { kScale, kZeroPoint };
enum { kCodes, kCodesScale, kCodesZeroPoint };

// auto-round 0.16, wrapper.py: q_scale_thresh.
constexpr float kScaleThreshold = 1e-5f;
constexpr float kScaleThresholdF32 = 1e-8f;

AffineInput input_of(const rh_tensor* weight, const rh_tensor* const* tunables, const rh_tensor* const* states) {
  const auto data = [](const rh_tensor* t) { return rh::data_or_null<const float>(t); };
  return {weight->data,
          data(rh::at(tunables, kV)),
          data(rh::at(tunables, kMinScale)),
          data(rh::at(tunables, kMaxScale)),
          data(states[kLow]),
          data(states[kHigh])};
}

// Any tunable makes the arithmetic float32.
AffineLayer with_arithmetic(AffineLayer layer, const AffineInput& input) {
  layer.tuned = input.v || input.min_scale || input.max_scale;
  return layer;
}

AffineCodes codes_of(rh_tensor* const* tensors, bool symmetric) {
  return {rh::data<uint8_t>(*tensors[kCodes]), tensors[kCodesScale]->data,
          symmetric ? nullptr : rh::data<uint8_t>(*tensors[kCodesZeroPoint])};
}

}  // namespace

AffineLayer make_affine_layer(const rh_layer& layer) {
  const rh_scheme& scheme = *layer.scheme;
  AffineLayer out{};
  out.rows = layer.rows;
  out.cols = layer.cols;
  out.whole_tensor = scheme.group_cols == RH_GROUP_TENSOR;
  out.span_cols = scheme.group_cols > 0 && scheme.group_cols < layer.cols ? scheme.group_cols : layer.cols;
  out.symmetric = scheme.symmetric != 0;
  out.bits = scheme.bits;
  out.weight = element_of(layer.dtype, "the weight");
  out.scale = scheme.scale_dtype.bits == 0 ? Element::kF16 : element_of(scheme.scale_dtype, "scale_dtype");
  const float by_default = out.scale == Element::kF32 ? kScaleThresholdF32 : kScaleThreshold;
  out.scale_threshold = round_to(out.scale, scheme.scale_threshold == 0 ? by_default : scheme.scale_threshold);
  if (!(out.scale_threshold > 0 && out.scale_threshold < INFINITY)) {
    std::ostringstream message;
    message << "q_scale_thresh " << scheme.scale_threshold << " is no positive number in " << name_of(out.scale)
            << ": leave it away, or set scale_dtype to float32";
    throw rh::Error(RH_INVALID_ARGUMENT, message.str());
  }
  return out;
}

IntQuantizer::IntQuantizer(const rh_layer& layer) : name_(layer.name), layer_(make_affine_layer(layer)) {
  const int64_t groups = affine_groups(layer_);
  const int64_t group_size = layer_.whole_tensor ? layer_.rows * layer_.cols : layer_.span_cols;
#if defined(ROUNDHOUSE_WITH_CUDA)
  info_.flags = RH_QUANTIZER_CAPTURABLE;
#endif

  tunables_.add("v", rh::kF32, {groups, group_size}).lr_group = RH_LR_ROUNDING;
  for (const char* name : {"min_scale", "max_scale"}) {
    rh_tensor_spec& spec = tunables_.add(name, rh::kF32, {groups});
    spec.lr_group = RH_LR_RANGE;
    spec.initial = 1;
    spec.clamp_min = 0;
    spec.clamp_max = 1;
  }
  states_.add("minimum", rh::kF32, {groups});
  states_.add("maximum", rh::kF32, {groups});
  results_.add("scale", type_of(layer_.scale), {groups, 1});
  if (!layer_.symmetric) results_.add("zp", rh::kF32, {groups, 1});

  const int64_t group_rows = layer_.whole_tensor ? layer_.rows : 1;
  const int64_t scale_rows = layer_.whole_tensor ? 1 : layer_.rows;
  encoding_.id = RH_ENCODING_AFFINE_INT;
  std::ostringstream parameters;
  parameters << R"({"bits": )" << layer_.bits << R"(, "group_cols": )" << layer_.span_cols << R"(, "group_rows": )"
             << group_rows << R"(, "symmetric": )" << (layer_.symmetric ? "true" : "false") << "}";
  encoding_parameters_ = parameters.str();
  encoded_.add("codes", rh::kU8, {layer_.rows, layer_.cols});
  encoded_.add("scale", type_of(layer_.scale), {scale_rows, affine_spans_per_row(layer_)});
  if (!layer_.symmetric) encoded_.add("zero_point", rh::kU8, {scale_rows, affine_spans_per_row(layer_)});
}

// One group for the whole tensor: what each row contributes is reduced in a second step.
uint64_t IntQuantizer::workspace_size(int32_t operation, int32_t /*device_type*/, int64_t rows) const {
  const bool reduces = operation == RH_OP_PREPARE || operation == RH_OP_BACKWARD || operation == RH_OP_SIGN_STEP;
  return layer_.whole_tensor && reduces ? static_cast<uint64_t>(rows) * sizeof(AffineSums) : 0;
}

void IntQuantizer::prepare(const rh_exec& exec, const rh_prepare_args& args) {
  auto* low = rh::data<float>(*args.states[kLow]);
  auto* high = rh::data<float>(*args.states[kHigh]);
  run_range(exec, layer_, args.input->data, low, high);
  // Reading results on CUDA would mean waiting for the stream, which is the host's; NaN then stays NaN in the output.
  if (exec.device.type == RH_DEVICE_CPU) check_range(low, high);
}

void IntQuantizer::check_range(const float* low, const float* high) const {
  const int64_t per_row = affine_spans_per_row(layer_);
  for (int64_t i = 0; i < affine_groups(layer_); ++i) {
    const float scale = affine_group(layer_, low[i], high[i], 1, 1).scale;
    if (std::isfinite(scale)) continue;
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

void IntQuantizer::forward(const rh_exec& exec, const rh_forward_args& args) {
  const AffineInput input = input_of(args.input, args.tunables, args.states);
  const AffineOutput output{args.output->data, element_of(args.output->dtype, "the output"),
                            optional_data<void>(args.results, kScale),
                            layer_.symmetric ? nullptr : optional_data<float>(args.results, kZeroPoint)};
  run_forward(exec, with_arithmetic(layer_, input), input, output);
}

void IntQuantizer::backward(const rh_exec& exec, const rh_backward_args& args) {
  if (args.grad_input) throw rh::Error(RH_UNIMPLEMENTED, "int gives no gradient of the weight itself");
  const AffineInput input = input_of(args.input, args.tunables, args.states);
  const AffineGradient gradient{args.grad_output->data, element_of(args.grad_output->dtype, "the gradient")};
  run_backward(exec, with_arithmetic(layer_, input), input, gradient,
               {optional_data<float>(args.grad_tunables, kV), optional_data<float>(args.grad_tunables, kMinScale),
                optional_data<float>(args.grad_tunables, kMaxScale)});
}

void IntQuantizer::sign_step(const rh_exec& exec, const rh_sign_step_args& args) {
  const AffineInput input = input_of(args.input, args.tunables, args.states);
  const AffineGradient gradient{args.grad_output->data, element_of(args.grad_output->dtype, "the gradient")};
  run_sign_step(exec, with_arithmetic(layer_, input), input, gradient,
                {optional_data<float>(args.tunables, kV), optional_data<float>(args.tunables, kMinScale),
                 optional_data<float>(args.tunables, kMaxScale), rh::data<float>(*args.learning_rates[RH_LR_ROUNDING]),
                 rh::data<float>(*args.learning_rates[RH_LR_RANGE])});
}

void IntQuantizer::encode(const rh_exec& exec, const rh_encode_args& args) {
  const AffineInput input = input_of(args.input, args.tunables, args.states);
  run_encode(exec, with_arithmetic(layer_, input), input, codes_of(args.tensors, layer_.symmetric));
}

void IntQuantizer::decode(const rh_exec& exec, const rh_decode_args& args) {
  run_decode(exec, layer_, codes_of(const_cast<rh_tensor* const*>(args.tensors), layer_.symmetric), args.output->data,
             element_of(args.output->dtype, "the output"));
}
