#include "host/tuning/layer_quantizer.h"

#include <c10/core/impl/VirtualGuardImpl.h>

#include "host/base/log.h"
#include "host/tuning/torch_view.h"

namespace roundhouse {
namespace {

void* stream_of(at::Device device) {
  if (device.is_cpu()) return nullptr;
  return c10::impl::VirtualGuardImpl(device.type()).getStream(device).native_handle();
}

}  // namespace

LayerQuantizer::LayerQuantizer(Catalogue& catalogue, const LayerPlan& plan, const Tensor& weight, at::Device device)
    : plan_(plan), device_(device) {
  const TensorScheme& scheme = *plan.scheme.weight;
  const rh_dtype* dtype = catalogue.dtype(scheme.dtype);
  if (device.is_cuda() && !(dtype->descriptor->supports & RH_SUPPORTS_CUDA)) device_ = at::kCPU;
  weight_ = to_torch(weight).to(device_);
  quantizer_ = std::make_unique<Quantizer>(
      catalogue, scheme,
      QuantizerTarget{plan.info.name, plan.info.role, weight.dim(0), weight.dim(1), weight.dtype(), RH_TARGET_WEIGHT});
  const rh_quantizer_info& info = quantizer_->info();
  for (uint32_t i = 0; i < info.state_count; ++i) states_.push_back(allocate(*info.states[i], device_));
  if (scheme.rounding != Rounding::kTuned || !quantizer_->can_tune()) return;
  for (uint32_t i = 0; i < info.tunable_count; ++i)
    tunables_.push_back(allocate(*info.tunables[i], device_).fill_(info.tunables[i]->initial));
}

Exec LayerQuantizer::exec() {
  Exec exec;
  if (device_.is_cuda()) exec.device = {RH_DEVICE_CUDA, device_.index()};
  exec.stream = stream_of(device_);
  exec.workspace = [this](uint64_t bytes) {
    if (!workspace_.defined() || workspace_.numel() < static_cast<int64_t>(bytes))
      workspace_ = at::empty({static_cast<int64_t>(bytes)}, at::TensorOptions(at::kByte).device(device_));
    return workspace_.data_ptr();
  };
  return exec;
}

at::Tensor LayerQuantizer::measure() {
  const rh_tensor_spec* spec = quantizer_->info().statistic;
  if (!spec) return {};
  at::Tensor statistic = allocate(*spec, device_);
  const Views input(weight_), output(statistic);
  quantizer_->measure(exec(), *input.one(), output.one_out());
  return statistic;
}

void LayerQuantizer::prepare(const at::Tensor& statistic) {
  const Views input(weight_), reduced(statistic), states(states_);
  quantizer_->prepare(exec(), input.one(), nullptr, reduced.one(), states.out());
}

void LayerQuantizer::make_leaf(at::ScalarType compute_type, at::Device device) {
  leaf_ = at::empty(weight_.sizes(), at::TensorOptions(compute_type).device(device));
  output_ = device == device_ ? leaf_ : at::empty(weight_.sizes(), at::TensorOptions(compute_type).device(device_));
}

void LayerQuantizer::forward() {
  // The plugin writes through the leaf's storage, out of autograd's sight.
  const at::Tensor target = output_.detach();
  const Views input(weight_), output(target), tunables(tunables_), states(states_);
  quantizer_->forward(exec(), *input.one(), tunable() ? tunables.in() : nullptr, states.in(), *output.one_out());
  if (!output_.is_same(leaf_)) leaf_.detach().copy_(output_);
}

void LayerQuantizer::step(const at::Tensor& gradient, const LearningRates& rates) {
  const at::Tensor local = gradient.to(device_).contiguous();
  const LearningRates local_rates{rates.rounding.to(device_), rates.range.to(device_)};
  if (!quantizer_->has_sign_step()) return step_with_gradients(local, local_rates);
  const Views input(weight_), grad(local), tunables(tunables_), states(states_),
      lr({local_rates.rounding, local_rates.range});
  quantizer_->sign_step(exec(), *input.one(), tunables.out(), states.in(), *grad.one(), lr.in());
}

void LayerQuantizer::step_with_gradients(const at::Tensor& gradient, const LearningRates& rates) {
  std::vector<at::Tensor> gradients;
  for (const at::Tensor& t : tunables_) gradients.push_back(at::empty_like(t));
  const Views input(weight_), grad(gradient), tunables(tunables_), states(states_), out(gradients);
  quantizer_->backward(exec(), *input.one(), tunables.in(), states.in(), *grad.one(), out.out());
  const rh_quantizer_info& info = quantizer_->info();
  for (size_t i = 0; i < tunables_.size(); ++i) {
    const rh_tensor_spec& spec = *info.tunables[i];
    tunables_[i].sub_(gradients[i].sign_() * (spec.lr_group == RH_LR_RANGE ? rates.range : rates.rounding));
    tunables_[i].clamp_(spec.clamp_min, spec.clamp_max);
  }
}

void LayerQuantizer::keep_best() {
  if (best_.empty())
    for (const at::Tensor& t : tunables_) best_.push_back(at::empty_like(t));
  for (size_t i = 0; i < tunables_.size(); ++i) best_[i].copy_(tunables_[i]);
}

void LayerQuantizer::restore_best() {
  if (best_.empty()) return;
  tunables_ = std::move(best_);
  best_.clear();
}

std::vector<Tensor> LayerQuantizer::encode() {
  const rh_encoding& spec = encoding();
  std::vector<at::Tensor> encoded;
  for (uint32_t i = 0; i < spec.tensor_count; ++i) encoded.push_back(allocate(*spec.tensors[i], device_));
  const Views input(weight_), tunables(tunables_), states(states_), out(encoded);
  quantizer_->encode(exec(), *input.one(), tunable() ? tunables.in() : nullptr, states.in(), out.out());
  std::vector<Tensor> result;
  for (const at::Tensor& t : encoded) result.push_back(from_torch(t.cpu()));
  return result;
}

}  // namespace roundhouse
