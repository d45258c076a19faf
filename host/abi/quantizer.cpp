// SPDX-License-Identifier: Apache-2.0
#include "host/abi/quantizer.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "host/abi/plugin_call.h"
#include "host/abi/views.h"
#include "host/base/cancel.h"
#include "host/base/error.h"

namespace roundhouse {
namespace {

constexpr uint64_t kWorkspaceAlignment = 256;
constexpr uint32_t kLearningRates = 2;  // RH_LR_ROUNDING, RH_LR_RANGE

// A QuantizerTarget as plugins see it. Borrows from it.
rh_layer layer_view(const QuantizerTarget& target, rh_stack& stack) {
  rh_layer layer{};
  layer.struct_size = sizeof layer;
  layer.target = target.target;
  layer.name = target.layer.c_str();
  layer.role = target.role.c_str();
  layer.rows = target.rows;
  layer.cols = target.cols;
  layer.dtype = to_rh(target.dtype);
  layer.matrices = 1;
  if (target.stack) {
    stack = target.stack->view();
    layer.stack = &stack;
  }
  return layer;
}

void fill(const Tensor& tensor, double value) {
  if (value == 0) return;
  if (tensor.dtype() != DType::kF32) throw Error(cat("an initial value for ", config_name(tensor.dtype())));
  std::fill_n(tensor.as<float>(), tensor.elements(), static_cast<float>(value));
}

}  // namespace

TensorSet::TensorSet(const rh_tensor_spec* const* specs, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) {
    const rh_tensor_spec& spec = *specs[i];
    names_.emplace_back(spec.name);
    tensors_.emplace_back(from_rh(spec.dtype), std::vector<int64_t>(spec.shape, spec.shape + spec.ndim));
    fill(tensors_.back(), spec.initial);
  }
  // Views borrow shapes that stay in place when the set is moved, as the vectors' memory does.
  for (const Tensor& tensor : tensors_) views_.push_back(tensor.view());
  for (rh_tensor& view : views_) pointers_.push_back(&view);
}

std::string spec_fault(const rh_tensor_spec* const* specs, uint32_t count, const char* kind) {
  if (count > 0 && !specs) return cat("counts ", count, " ", kind, " but gives none");
  for (uint32_t i = 0; i < count; ++i) {
    const rh_tensor_spec* spec = specs[i];
    const bool valid = spec && RH_HAS(spec, name) && RH_KNOWS(spec, clamp_max) && spec->ndim >= 0 &&
                       spec->ndim <= RH_MAX_DIMS &&
                       std::all_of(spec->shape, spec->shape + spec->ndim, [](int64_t n) { return n >= 0; });
    if (!valid) return cat("the declaration of ", kind, " ", i, " is damaged");
  }
  return "";
}

std::string encoding_fault(const rh_encoding* encoding) {
  if (!RH_HAS(encoding, id) || !RH_HAS(encoding, parameters_json)) return "the encoding has no id or no parameters";
  return spec_fault(RH_KNOWS(encoding, tensors) ? encoding->tensors : nullptr, encoding->tensor_count,
                    "encoded tensors");
}

void check_dtype(const LoadedDtype& dtype, const TensorScheme& scheme, const QuantizerTarget& target) {
  const SchemeView asked(scheme);
  rh_stack stack;
  rh_layer layer = layer_view(target, stack);
  layer.scheme = asked.get();
  call_plugin(dtype.label, "check", target.layer,
              [&](rh_error* error) { return dtype.table->check(dtype.table, &layer, error); });
}

void Quantizer::Destroy::operator()(rh_quantizer* table) const {
  const WatchedCall here(plugin, "destroy");
  if (RH_HAS(table, destroy)) table->destroy(table);
}

Quantizer::Quantizer(const LoadedDtype& dtype, const TensorScheme& scheme, const QuantizerTarget& target)
    : plugin_(dtype.label), layer_(target.layer), rows_(target.rows) {
  const SchemeView asked(scheme);
  rh_stack stack;
  rh_layer layer = layer_view(target, stack);
  layer.scheme = asked.get();
  make(dtype, layer);
}

Quantizer::Quantizer(const LoadedDtype& dtype, const rh_encoding& encoding, const QuantizerTarget& target)
    : plugin_(dtype.label), layer_(target.layer), rows_(target.rows) {
  rh_stack stack;
  rh_layer layer = layer_view(target, stack);
  layer.encoding = &encoding;
  make(dtype, layer);
}

void Quantizer::make(const LoadedDtype& dtype, const rh_layer& layer) {
  rh_quantizer* made = nullptr;
  call_plugin(plugin_, "create", layer_,
              [&](rh_error* error) { return dtype.table->create(dtype.table, &layer, &made, error); });
  if (!made) throw Error(cat(plugin_, ", create of ", layer_, ": reported success but made nothing"));
  table_ = Table(made, {plugin_});
  read_info();
}

void Quantizer::read_info() {
  if (!RH_HAS(table_.get(), info)) fail_missing(plugin_, "info", layer_);
  const PluginCall here(plugin_, "info", layer_);
  const rh_quantizer_info* info = table_->info(table_.get());
  const auto invalid = [&](const std::string& what) { throw Error(cat(plugin_, ", info of ", layer_, ": ", what)); };
  if (!info) invalid("is NULL");
  std::memcpy(&info_, info, std::min<size_t>(info->struct_size, sizeof info_));

  const auto check_specs = [&](const rh_tensor_spec* const* specs, uint32_t count, const char* kind) {
    if (const std::string fault = spec_fault(specs, count, kind); !fault.empty()) invalid(fault);
  };
  check_specs(info_.tunables, info_.tunable_count, "tunables");
  check_specs(info_.states, info_.state_count, "states");
  check_specs(info_.results, info_.result_count, "results");
  check_specs(&info_.statistic, info_.statistic ? 1 : 0, "statistic");
  for (uint32_t i = 0; i < info_.tunable_count; ++i)
    if (const int32_t group = info_.tunables[i]->lr_group; group != RH_LR_ROUNDING && group != RH_LR_RANGE)
      invalid(
          cat("tunable ", info_.tunables[i]->name, " has a learning rate that this version does not know, ", group));
  if (info_.reduce < RH_REDUCE_NONE || info_.reduce > RH_REDUCE_SUM)
    invalid(cat("a reduction that this version does not know, ", info_.reduce));
  if (info_.encoding)
    if (const std::string fault = encoding_fault(info_.encoding); !fault.empty()) invalid(fault);
}

const rh_encoding& Quantizer::encoding() const {
  if (!info_.encoding) throw Error(cat(plugin_, " declares no encoding for ", layer_));
  return *info_.encoding;
}

TensorSet Quantizer::encoded() const { return TensorSet(encoding().tensors, encoding().tensor_count); }

std::vector<size_t> Quantizer::order_of(const TensorSet& given) const {
  std::vector<size_t> order;
  for (uint32_t i = 0; i < encoding().tensor_count; ++i) {
    const char* const name = encoding().tensors[i]->name;
    size_t at = 0;
    while (at < given.size() && given.name(at) != name) ++at;
    if (at == given.size()) throw Error(cat(plugin_, ", ", layer_, ": the encoding came without its tensor ", name));
    order.push_back(at);
  }
  return order;
}

void Quantizer::require_represented(uint32_t status) const {
  if (status == 0) return;
  throw Error(cat(plugin_, ", on the device, of ", layer_, ": ",
                  status & RH_STATUS_NOT_FINITE ? "a value is NaN or infinite: the model is damaged, or overflows"
                  : status & RH_STATUS_SCALE_RANGE
                      ? "a scale is beyond its element type: set scale_dtype to bfloat16 or float32, or give the layer "
                        "another data type"
                      : cat("a status that this version does not know, ", status)));
}

template <typename Args>
void Quantizer::call(const char* name, rh_code (*function)(rh_quantizer*, const rh_exec*, const Args*, rh_error*),
                     int32_t operation, int64_t rows, const Exec& exec, const Args& args) {
  if (!function) fail_missing(plugin_, name, layer_);
  rh_exec run{};
  run.struct_size = sizeof run;
  run.device = exec.device;
  run.stream = exec.stream;
  run.cancelled = cancellation_flag();
  run.status = exec.status;
  if (RH_HAS(table_.get(), workspace_size)) {
    const PluginCall here(plugin_, "workspace_size", layer_);
    run.workspace_size = table_->workspace_size(table_.get(), operation, exec.device.type, rows);
  }
  if (run.workspace_size > 0) {
    if (exec.workspace) {
      run.workspace = exec.workspace(run.workspace_size);
    } else if (exec.device.type == RH_DEVICE_CPU) {
      workspace_.resize(std::max<size_t>(workspace_.size(), run.workspace_size + kWorkspaceAlignment));
      const auto address = reinterpret_cast<uintptr_t>(workspace_.data());
      run.workspace = workspace_.data() + (kWorkspaceAlignment - address % kWorkspaceAlignment) % kWorkspaceAlignment;
    }
    if (!run.workspace)
      throw Error(cat(plugin_, ", ", name, " of ", layer_, ": no workspace of ", run.workspace_size, " bytes"));
  }
  const auto call = [&](rh_error* error) { return function(table_.get(), &run, &args, error); };
  if (std::exchange(watched_[static_cast<size_t>(operation)], true))
    call_plugin<PluginCall>(plugin_, name, layer_, call);
  else
    call_plugin(plugin_, name, layer_, call);
}

// The member of the plugin's table, or nullptr when the table is too small for it.
#define RH_MEMBER(name) (RH_HAS(table_.get(), name) ? table_->name : nullptr)

void Quantizer::measure(const Exec& exec, const rh_tensor& input, rh_tensor* statistic) {
  if (!info_.statistic) return;
  const rh_measure_args args{sizeof args, 0, &input, statistic};
  call("measure", RH_MEMBER(measure), RH_OP_MEASURE, input.shape[0], exec, args);
}

void Quantizer::prepare(const Exec& exec, const rh_tensor* input, const rh_tensor* importance,
                        const rh_tensor* statistic, rh_tensor* const* states, const rh_tensor* const* encoded) {
  if (info_.state_count == 0) return;
  const rh_prepare_args args{sizeof args, 0, input, importance, statistic, states, encoded};
  call("prepare", RH_MEMBER(prepare), RH_OP_PREPARE, rows_of(input), exec, args);
}

void Quantizer::forward(const Exec& exec, const rh_tensor& input, const rh_tensor* const* tunables,
                        const rh_tensor* const* states, rh_tensor& output, rh_tensor* const* results) {
  const rh_forward_args args{sizeof args, 0, &input, tunables, states, &output, results};
  call("forward", RH_MEMBER(forward), RH_OP_FORWARD, input.shape[0], exec, args);
}

void Quantizer::backward(const Exec& exec, const rh_tensor& input, const rh_tensor* const* tunables,
                         const rh_tensor* const* states, const rh_tensor& grad_output, rh_tensor* const* grad_tunables,
                         rh_tensor* grad_input) {
  const rh_backward_args args{sizeof args, 0, &input, tunables, states, &grad_output, grad_tunables, grad_input};
  call("backward", RH_MEMBER(backward), RH_OP_BACKWARD, input.shape[0], exec, args);
}

void Quantizer::sign_step(const Exec& exec, const rh_tensor& input, rh_tensor* const* tunables,
                          const rh_tensor* const* states, const rh_tensor& grad_output,
                          const rh_tensor* const* learning_rates) {
  const rh_sign_step_args args{sizeof args, kLearningRates, &input, tunables, states, &grad_output, learning_rates};
  call("sign_step", RH_MEMBER(sign_step), RH_OP_SIGN_STEP, input.shape[0], exec, args);
}

void Quantizer::encode(const Exec& exec, const rh_tensor* input, const rh_tensor* const* tunables,
                       const rh_tensor* const* states, rh_tensor* const* tensors) {
  const rh_encode_args args{sizeof args, 0, input, tunables, states, tensors};
  call("encode", RH_MEMBER(encode), RH_OP_ENCODE, rows_of(input), exec, args);
}

void Quantizer::decode(const Exec& exec, const rh_tensor* const* tensors, rh_tensor& output) {
  const rh_decode_args args{sizeof args, 0, tensors, &output};
  call("decode", RH_MEMBER(decode), RH_OP_DECODE, output.shape[0], exec, args);
}

#undef RH_MEMBER

}  // namespace roundhouse
