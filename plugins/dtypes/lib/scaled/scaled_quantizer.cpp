// SPDX-License-Identifier: Apache-2.0
#include "plugins/dtypes/lib/scaled/scaled_quantizer.h"

#include <algorithm>
#include <cmath>
#include <roundhouse/encoding/mx.hpp>
#include <roundhouse/encoding/nvfp.hpp>
#include <roundhouse/encoding/scaled_fp8.hpp>
#include <sstream>
#include <utility>

#include "kernels/cpu/scaled.h"
#include "kernels/scaled_math.h"
#include "plugins/dtypes/lib/element_types.h"
#include "plugins/dtypes/lib/scaled/scaled_run.h"

using namespace roundhouse::kernels;

namespace {

// How far the factor of a range goes that was searched: auto-round 0.16, SignRoundV2.
constexpr float kSearchedRangeLimit = 2;

// Order of the encoded tensors.
enum { kCodes, kCodesScale, kGlobalScale };

// Smallest scale of kRatio: 1 / (largest element * 512), as vLLM has it.
float smallest_scale(const ScaledLayer& layer) {
  return round_to(layer.scale, round_to(layer.arithmetic, 1.0f / (layer.element.max * 512.0f)));
}

const float* tensor_at(const rh_tensor* const* tensors, int place) {
  return place < 0 ? nullptr : rh::data_or_null<const float>(rh::at(tensors, place));
}
float* tensor_at(rh_tensor* const* tensors, int place) {
  return place < 0 ? nullptr : optional_data<float>(tensors, place);
}

int add(rh::Specs& specs, const char* name, std::initializer_list<int64_t> shape) {
  specs.add(name, rh::kF32, shape);
  return static_cast<int>(specs.count()) - 1;
}

bool is_power(ScaleRule rule) { return rule == ScaleRule::kFloor || rule == ScaleRule::kCeil; }

}  // namespace

ScaledLayer make_scaled_layer(const rh_layer& layer, ScaledLayer out) {
  const rh_scheme& scheme = *layer.scheme;
  const bool whole_tensor = scheme.group_cols == RH_GROUP_TENSOR;
  const bool block = scheme.group_rows > 1;
  out.rows = layer.rows;
  out.cols = layer.cols;
  out.group_rows = whole_tensor ? std::max<int64_t>(1, layer.rows) : scheme.group_rows;
  // A block keeps its width in v, whose shape the reference has so.
  out.span_cols = scheme.group_cols > 0 && (block || scheme.group_cols < layer.cols) ? scheme.group_cols : layer.cols;
  out.input = element_of(layer.dtype, layer.target == RH_TARGET_WEIGHT ? "the weight" : "the activation");
  out.scale = scheme.scale_dtype.bits == 0 ? Element::kF32 : element_of(scheme.scale_dtype, "scale_dtype");
  // The reference computes the scales of blocks, not tuned, in the weight's type.
  out.arithmetic = out.rule == ScaleRule::kRatio && block ? out.input : Element::kF32;
  out.smallest = smallest_scale(out);
  if (scheme.rounding == RH_ROUNDING_TUNED_SEARCH && layer.target == RH_TARGET_WEIGHT)
    out.range_limit = kSearchedRangeLimit;
  return out;
}

rh_scheme input_scheme(const char* dtype, int bits, int64_t group_cols, int64_t cols, int32_t dynamic) {
  rh_scheme scheme{};
  scheme.struct_size = sizeof scheme;
  scheme.bits = bits;
  scheme.dtype = dtype;
  scheme.symmetric = 1;
  scheme.group_rows = 1;
  scheme.group_cols = group_cols != RH_GROUP_TENSOR && group_cols >= cols ? RH_GROUP_ROW : group_cols;
  scheme.dynamic = dynamic == RH_INPUT_DYNAMIC;
  scheme.options_json = "{}";
  return scheme;
}

void check_scaled(const rh_layer& layer, const std::string& dtype) {
  const rh_scheme& scheme = *layer.scheme;
  rh::require(scheme.symmetric != 0, dtype + " is symmetric: set sym to true");
  rh::require(scheme.scale_threshold == 0, dtype + " has a smallest scale of its own: omit q_scale_thresh");
  rh::require(layer.cols >= 1 && (layer.target == RH_TARGET_ACTIVATION || layer.rows >= 1),
              "a tensor needs at least one row and one column");
  rh::require(layer.target == RH_TARGET_WEIGHT || scheme.group_rows == 1,
              dtype + " has no 2-D groups of activations: set act_group_size to one number");
}

ScaledQuantizer::ScaledQuantizer(const rh_layer& layer, ScaledDtype dtype)
    : name_(layer.name),
      dtype_(dtype),
      layer_(make_scaled_layer(layer, dtype_.layer)),
      activation_(layer.target == RH_TARGET_ACTIVATION),
      whole_tensor_(layer.scheme->group_cols == RH_GROUP_TENSOR),
      block_(layer.scheme->group_rows > 1),
      searched_(layer_.range_limit > 1 || (layer.scheme->rounding == RH_ROUNDING_SEARCH && !activation_)) {
  if (!activation_ && !whole_tensor_) info_.flags |= RH_QUANTIZER_ROWS_INDEPENDENT;
  info_.row_multiple = activation_ ? 1 : layer_.group_rows;
  const bool two_level = layer_.rule == ScaleRule::kNvfp4;
  const bool measured = activation_ ? dtype_.calibrated : two_level;
  if (measured && !layer_.given) {
    info_.statistic = &statistic_.add("tensor_amax", rh::kF32, {1});
    info_.reduce = RH_REDUCE_MAX;
    if (two_level) info_.flags |= RH_QUANTIZER_SHARED_STATISTIC;
  }

  const int64_t groups = activation_ ? 1 : scaled_groups(layer_);
  if (!activation_ || (measured && !two_level))  // of unit scales only to find NaN
    maximum_ = add(states_, "amax", {groups});
  if (two_level && measured) largest_ = add(states_, "tensor_amax", {1});

  const int64_t row_groups = block_ ? groups / scaled_spans_per_row(layer_) : groups;
  const int64_t per_row = scaled_spans_per_row(layer_);
  if (!activation_) {
    v_ = block_ ? add(tunables_, "v", {row_groups, per_row, layer_.group_rows, layer_.span_cols})
                : add(tunables_, "v", {groups, layer_.group_rows * layer_.span_cols});
    const rh_data_type shown = is_power(layer_.rule) ? layer.dtype : type_of(layer_.scale);
    if (layer_.rule == ScaleRule::kUnit)
      results_.add("scale", shown, {1});
    else
      results_.add("scale", shown, {row_groups, block_ ? per_row : 1});
  }
  if (dtype_.max_scale && (!activation_ || maximum_ >= 0)) {
    rh_tensor_spec& spec = block_ ? tunables_.add("max_scale", rh::kF32, {row_groups, per_row})
                                  : tunables_.add("max_scale", rh::kF32, {groups});
    max_scale_ = static_cast<int>(tunables_.count()) - 1;
    spec.lr_group = RH_LR_RANGE;
    spec.initial = 1;
    spec.clamp_min = 0;
    spec.clamp_max = layer_.range_limit;
  }
  encoding_ = made_encoding();
}

rh::Encoding ScaledQuantizer::made_encoding() const {
  const bool unit = layer_.rule == ScaleRule::kUnit, measured = maximum_ >= 0 || largest_ >= 0 || unit;
  const int dynamic = !activation_ ? RH_INPUT_NONE : measured ? RH_INPUT_CALIBRATED : RH_INPUT_DYNAMIC;
  const int64_t rows = layer_.rows, cols = layer_.cols, span = layer_.span_cols;
  if (is_power(layer_.rule))
    return {rh::Mx(dtype_.element, span, dynamic, activation_ ? dtype_.exponent : RH_MX_FLOOR), rows, cols};
  if (layer_.rule == ScaleRule::kNvfp4) return {rh::Nvfp(RH_NVFP_E4M3, span, dynamic), rows, cols};
  if (layer_.rule == ScaleRule::kUe5m3) return {rh::Nvfp(RH_NVFP_UE5M3, span, dynamic), rows, cols};
  rh::ScaledFp8 made(dtype_.element, activation_ ? !whole_tensor_ && !unit : layer_.group_rows, span, dynamic);
  made.scale = type_of(layer_.scale);
  made.unit_scale = unit;
  return {made, rows, cols};
}

ScaledLayer ScaledQuantizer::layer_of(int64_t rows, bool tuned) const {
  ScaledLayer layer = layer_;
  if (activation_) layer.rows = rows;
  if (activation_ && whole_tensor_) layer.group_rows = std::max<int64_t>(1, rows);
  if (tuned) layer.arithmetic = Element::kF32;
  layer.smallest = smallest_scale(layer);
  return layer;
}

// Floats: the spans' maxima, the groups' maxima and their largest, the spans' gradient sums.
uint64_t ScaledQuantizer::workspace_size(int32_t operation, int32_t /*device_type*/, int64_t rows) const {
  if (operation == RH_OP_ENCODE || operation == RH_OP_DECODE) return 0;
  const ScaledLayer layer = layer_of(activation_ ? std::max<int64_t>(0, rows) : layer_.rows, false);
  const bool ranges = operation == RH_OP_MEASURE || activation_;
  if (!ranges && layer.group_rows == 1) return 0;
  return static_cast<uint64_t>(3 * scaled_spans(layer) + 1) * sizeof(float);
}

ScaledQuantizer::Call ScaledQuantizer::call(const rh_exec& exec, const rh_tensor* input,
                                            const rh_tensor* const* tunables, const rh_tensor* const* states) const {
  const float *v = tensor_at(tunables, v_), *max_scale = tensor_at(tunables, max_scale_);
  Call call{layer_of(input ? input->shape[0] : 1, v || max_scale), {}, nullptr};
  call.input = {input ? input->data : nullptr, v, max_scale, tensor_at(states, maximum_), tensor_at(states, largest_)};
  auto* workspace = static_cast<float*>(exec.workspace);
  if (!workspace) return call;
  const int64_t spans = scaled_spans(call.layer);
  float *maximum = workspace + spans, *largest = maximum + spans;
  call.sums = largest + 1;
  if (!activation_ || call.layer.rule == ScaleRule::kUnit) return call;
  if (maximum_ < 0) {
    run_maximum(exec, call.layer, input->data, maximum, workspace);
    call.input.maximum = maximum;
  }
  if (call.layer.rule == ScaleRule::kNvfp4 && largest_ < 0) {
    run_largest(exec, scaled_groups(call.layer), maximum, largest, workspace);
    call.input.largest = largest;
  }
  return call;
}

void ScaledQuantizer::measure(const rh_exec& exec, const rh_measure_args& args) {
  ScaledLayer layer = layer_of(args.input->shape[0], false);
  layer.group_rows = 1;
  auto* spans = static_cast<float*>(exec.workspace);
  run_maximum(exec, layer, args.input->data, spans, nullptr);
  run_largest(exec, scaled_spans(layer), spans, rh::data<float>(*args.statistic), spans + scaled_spans(layer));
}

void ScaledQuantizer::prepare(const rh_exec& exec, const rh_prepare_args& args) {
  float *maximum = tensor_at(args.states, maximum_), *largest = tensor_at(args.states, largest_);
  const rh_tensor* given = layer_.given ? rh::at(args.encoded, 0) : args.statistic;
  const float* statistic = rh::data_or_null<const float>(given);
  if ((info_.statistic || layer_.given) && !statistic)
    throw rh::Error(RH_INVALID_ARGUMENT, name_ + ": the range was not measured");
  if (largest) run_largest(exec, 1, statistic, largest, nullptr);
  if (activation_) {
    if (maximum) run_largest(exec, 1, statistic, maximum, nullptr);
  } else if (maximum) {
    run_maximum(exec, layer_, args.input->data, maximum, static_cast<float*>(exec.workspace));
  }
  const int64_t groups = activation_ ? 1 : scaled_groups(layer_);
  if (!checks_on_cuda(exec, layer_, groups, maximum, largest)) check_range(groups, maximum, largest);
  if (searched_)
    run_search(exec, layer_, {args.input->data, nullptr, nullptr, maximum, largest},
               {rh::data_or_null<const float>(args.importance), maximum});
}

void ScaledQuantizer::check_range(int64_t groups, const float* maximum, const float* largest) const {
  const int64_t per_row = scaled_spans_per_row(layer_);
  const auto fits = [&](float of_group) {
    return std::isfinite(of_group) && std::isfinite(scaled_group(layer_, of_group, 1.0f, largest ? *largest : 0).scale);
  };
  const bool all_fit = !maximum || fits(largest_of(groups, maximum));  // scales grow with the maxima
  for (int64_t i = 0; !all_fit && i < groups; ++i) {
    if (fits(maximum[i])) continue;
    std::ostringstream message;
    message << name_ << ": ";
    const int64_t row = i / per_row * layer_.group_rows, col = i % per_row * layer_.span_cols;
    if (activation_ || whole_tensor_)
      message << (activation_ ? "the activation" : "the weight");
    else if (block_)
      message << "the weight in rows " << row << " to " << std::min(layer_.rows, row + layer_.group_rows) - 1;
    else
      message << "the weight in row " << row;
    if (!activation_ && !whole_tensor_)
      message << ", columns " << col << " to " << std::min(layer_.cols, col + layer_.span_cols) - 1 << ",";
    if (std::isfinite(maximum[i]))
      message << " has magnitudes up to " << maximum[i] << ", which needs a scale beyond " << name_of(layer_.scale)
              << ": set scale_dtype to bfloat16 or float32";
    else
      message << " holds NaN or infinity: the " << (activation_ ? "model" : "checkpoint") << " is damaged";
    throw rh::Error(RH_INVALID_ARGUMENT, message.str());
  }
  if (largest && !std::isfinite(*largest))
    throw rh::Error(RH_INVALID_ARGUMENT, name_ + ": NaN or infinity in what the global scale is measured on");
}

void ScaledQuantizer::forward(const rh_exec& exec, const rh_forward_args& args) {
  const Call c = call(exec, args.input, args.tunables, args.states);
  const Element shown = is_power(c.layer.rule) ? c.layer.input : c.layer.scale;
  run_forward(exec, c.layer, c.input,
              {args.output->data, element_of(args.output->dtype, "the output"),
               activation_ ? nullptr : optional_data<void>(args.results, 0), shown});
}

void ScaledQuantizer::backward(const rh_exec& exec, const rh_backward_args& args) {
  const Call c = call(exec, args.input, args.tunables, args.states);
  const OutputGradient gradient{args.grad_output->data, element_of(args.grad_output->dtype, "the gradient")};
  const TunableGradients out{tensor_at(args.grad_tunables, v_), nullptr, tensor_at(args.grad_tunables, max_scale_)};
  if (out.v || out.max_scale) run_backward(exec, c.layer, c.input, gradient, out, c.sums);
  if (args.grad_input)
    run_input_gradient(exec, c.layer, c.input, gradient, args.grad_input->data,
                       element_of(args.grad_input->dtype, "the input's gradient"));
}

void ScaledQuantizer::sign_step(const rh_exec& exec, const rh_sign_step_args& args) {
  const Call c = call(exec, args.input, args.tunables, args.states);
  const OutputGradient gradient{args.grad_output->data, element_of(args.grad_output->dtype, "the gradient")};
  run_sign_step(exec, c.layer, c.input, gradient,
                {tensor_at(args.tunables, v_), nullptr, tensor_at(args.tunables, max_scale_),
                 rh::data<float>(*args.learning_rates[RH_LR_ROUNDING]),
                 rh::data<float>(*args.learning_rates[RH_LR_RANGE]), layer_.range_limit},
                c.sums);
}

ScaledCodes ScaledQuantizer::codes_of(rh_tensor* const* tensors) const {
  return {rh::data<uint8_t>(*tensors[kCodes]), layer_.rule == ScaleRule::kUnit ? nullptr : tensors[kCodesScale]->data,
          largest_ < 0 ? nullptr : rh::data<float>(*tensors[kGlobalScale])};
}

void ScaledQuantizer::encode(const rh_exec& exec, const rh_encode_args& args) {
  rh_exec plain = exec;
  plain.workspace = nullptr;
  const Call c = call(plain, args.input, args.tunables, args.states);
  if (!activation_)
    run_encode(exec, c.layer, c.input, codes_of(args.tensors));
  else if (encoding_.specs().count() > 0)
    run_calibrated(exec, c.layer, c.input, rh::data<float>(*args.tensors[0]));
}

void ScaledQuantizer::decode(const rh_exec& exec, const rh_decode_args& args) {
  run_decode(exec, layer_, codes_of(const_cast<rh_tensor* const*>(args.tensors)), args.output->data,
             element_of(args.output->dtype, "the output"));
}
