// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/device_quantizer.h"

#include "host/model/accelerator.h"
#include "host/model/torch_tensor.h"
#include "host/tuning/torch_view.h"

namespace roundhouse {
namespace {

at::Device plugin_device(const LoadedDtype& dtype, at::Device wanted) {
  const bool has_cuda = dtype.table->descriptor->supports & RH_SUPPORTS_CUDA;
  return wanted.type() == cuda_of_plugins && has_cuda ? wanted : at::Device(at::kCPU);
}

}  // namespace

at::Tensor reduced(int32_t how, const at::Tensor& a, const at::Tensor& b) {
  return how == RH_REDUCE_MAX ? at::maximum(a, b) : how == RH_REDUCE_MIN ? at::minimum(a, b) : a + b;
}

DeviceQuantizer::DeviceQuantizer(const LoadedDtype& dtype, const TensorScheme& scheme, const QuantizerTarget& target,
                                 at::Device device)
    : plugin_(dtype, scheme, target), device_(plugin_device(dtype, device)) {
  make_tensors();
}

DeviceQuantizer::DeviceQuantizer(const LoadedDtype& dtype, const rh_encoding& encoding, const QuantizerTarget& target,
                                 at::Device device)
    : plugin_(dtype, encoding, target), device_(plugin_device(dtype, device)) {
  make_tensors();
}

void DeviceQuantizer::make_tensors() {
  for (uint32_t i = 0; i < info().state_count; ++i) states_.push_back(allocate(*info().states[i], device_));
  if (runs_ahead(device_)) status_ = at::zeros({1}, at::TensorOptions(at::kInt).device(device_));
}

Exec DeviceQuantizer::exec(at::Device device) {
  Exec exec;
  exec.device = rh_device_of(device);
  if (status_.defined() && device == device_) exec.status = static_cast<uint32_t*>(status_.data_ptr());
  exec.stream = stream_of(device);
  exec.workspace = [this, device](uint64_t bytes) {
    constexpr int64_t kAlignment = 256;  // libtorch's own is less on the CPU
    const int64_t needed = static_cast<int64_t>(bytes) + kAlignment;
    if (!workspace_.defined() || workspace_.device() != device || workspace_.numel() < needed)
      workspace_ = at::empty({needed}, at::TensorOptions(at::kByte).device(device));
    const auto address = reinterpret_cast<uintptr_t>(workspace_.data_ptr());
    return reinterpret_cast<void*>((address + kAlignment - 1) / kAlignment * kAlignment);
  };
  return exec;
}

at::Tensor DeviceQuantizer::measure(const at::Tensor& input) {
  const rh_tensor_spec* spec = info().statistic;
  if (!spec) return {};
  at::Tensor statistic = allocate(*spec, device_);
  const Views in(input), out(statistic);
  plugin_.measure(exec(device_), *in.one(), out.one_out());
  return statistic;
}

void DeviceQuantizer::prepare(const at::Tensor& input, const at::Tensor& importance, const at::Tensor& statistic,
                              const std::vector<at::Tensor>& encoded) {
  const at::Device device = info().flags & RH_QUANTIZER_CPU_PREPARE ? at::Device(at::kCPU) : device_;
  std::vector<at::Tensor> inputs{input, importance, statistic}, given, filled;
  for (at::Tensor& t : inputs)
    if (t.defined()) t = t.to(device);
  for (const at::Tensor& t : encoded) given.push_back(t.to(device));
  for (const at::Tensor& t : states_) filled.push_back(device == device_ ? t : at::empty_like(t, device));
  const Views in(inputs[0]), weights(inputs[1]), reduced(inputs[2]), states(filled), tensors(given);
  plugin_.prepare(exec(device), in.one(), weights.one(), reduced.one(), states.out(), tensors.in_or_null());
  for (size_t i = 0; i < states_.size(); ++i) states_[i].copy_(filled[i]);
}

void DeviceQuantizer::prepare(const TensorSet& encoded) {
  std::vector<at::Tensor> tensors;
  for (const size_t i : plugin_.order_of(encoded)) tensors.push_back(to_torch(encoded[i]));
  prepare({}, {}, {}, tensors);
}

void DeviceQuantizer::forward(const at::Tensor& input, const std::vector<at::Tensor>& tunables,
                              const at::Tensor& output) {
  const Views in(input), out(output), tuned(tunables), states(states_);
  plugin_.forward(exec(device_), *in.one(), tuned.in_or_null(), states.in(), *out.one_out());
}

void DeviceQuantizer::backward(const at::Tensor& input, const std::vector<at::Tensor>& tunables,
                               const at::Tensor& grad_output, const std::vector<at::Tensor>& grad_tunables,
                               const at::Tensor& grad_input) {
  const Views in(input), tuned(tunables), states(states_), gradient(grad_output), out(grad_tunables),
      out_input(grad_input);
  plugin_.backward(exec(device_), *in.one(), tuned.in_or_null(), states.in(), *gradient.one(), out.out(),
                   out_input.one_out());
}

void DeviceQuantizer::sign_step(const at::Tensor& input, const std::vector<at::Tensor>& tunables,
                                const at::Tensor& grad_output, const std::vector<at::Tensor>& learning_rates) {
  const Views in(input), tuned(tunables), states(states_), gradient(grad_output), rates(learning_rates);
  plugin_.sign_step(exec(device_), *in.one(), tuned.out(), states.in(), *gradient.one(), rates.in());
}

std::vector<Tensor> DeviceQuantizer::encode(const at::Tensor& input, const std::vector<at::Tensor>& tunables) {
  const rh_encoding& encoding = *info().encoding;
  std::vector<at::Tensor> encoded;
  for (uint32_t i = 0; i < encoding.tensor_count; ++i) encoded.push_back(allocate(*encoding.tensors[i], device_));
  if (encoded.empty()) return {};
  const Views in(input), tuned(tunables), states(states_), out(encoded);
  plugin_.encode(exec(device_), in.one(), tuned.in_or_null(), states.in(), out.out());
  std::vector<Tensor> result;
  for (const at::Tensor& t : encoded) result.push_back(from_torch(t.cpu()));
  check();
  return result;
}

DeviceStatus::DeviceStatus(std::vector<const DeviceQuantizer*> quantizers) : quantizers_(std::move(quantizers)) {
  std::erase_if(quantizers_, [](const auto* quantizer) { return !quantizer->status().defined(); });
}

void DeviceStatus::fetch() {
  if (quantizers_.empty()) return;
  std::vector<at::Tensor> words;
  for (const auto* quantizer : quantizers_) words.push_back(quantizer->status());
  found_ = begin_copy_to_host(at::cat(words));
}

void DeviceStatus::check() const {
  for (size_t i = 0; i < quantizers_.size() && found_.defined(); ++i)
    quantizers_[i]->require_represented(found_.const_data_ptr<int32_t>()[i]);
}

}  // namespace roundhouse
