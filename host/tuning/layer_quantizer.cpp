// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/layer_quantizer.h"

#include <utility>

#include "host/model/block_kernels.h"
#include "host/model/torch_tensor.h"
#include "host/tuning/shares.h"
#include "host/tuning/torch_view.h"

namespace roundhouse {
namespace {

const Tensor* importance_of(const LayerPlan& plan, const Importance& importance) {
  if (!is_searched(plan.scheme.weight->rounding)) return nullptr;
  const auto found = importance.find(plan.info.name);
  return found == importance.end() ? nullptr : &found->second.sums;
}

}  // namespace

LayerQuantizer::LayerQuantizer(Catalogue& catalogue, const LayerPlan& plan, const Tensor& weight, at::Device device)
    : plan_(plan),
      quantizer_(catalogue.dtype(plan.scheme.weight->dtype), *plan.scheme.weight,
                 {plan.info.name, plan.info.role, weight.dim(0), weight.dim(1), weight.dtype(), RH_TARGET_WEIGHT,
                  plan.info.stack},
                 device),
      // From memory that the device copies by itself there is nothing to wait for.
      weight_(to_torch(weight).to(quantizer_.device(), to_torch(weight.dtype()), /*non_blocking=*/true)),
      tunable_(is_tuned(plan.scheme.weight->rounding) && !plan.too_few_tokens && quantizer().can_tune() &&
               quantizer_.info().tunable_count > 0) {}

EncodedLayer LayerQuantizer::take_encoded(Tensor bias) {
  std::vector<Tensor> tensors = encode();
  const rh_encoding& declared = encoding();
  const auto quantizer = std::make_shared<Quantizer>(quantizer_.take_plugin());
  EncodedLayer encoded{
      plan_, declared, std::move(tensors), std::move(bias),
      [quantizer](const rh_tensor* const* from, rh_tensor& output) { quantizer->decode(Exec(), from, output); }};
  if (plan_.activation_encoding) encoded.activation_encoding = &plan_.activation_encoding->get();
  return encoded;
}

void LayerQuantizer::prepare(const at::Tensor& statistic, const at::Tensor& importance) {
  quantizer_.prepare(weight_, importance.defined() ? importance.to(quantizer_.device()) : importance, statistic);
}

void LayerQuantizer::make_leaf(at::ScalarType compute_type, at::Device device) {
  const auto make = [&](at::Device on) {
    return at::empty(weight_.sizes(), at::TensorOptions(compute_type).device(on));
  };
  written_ = false;
  leaf_ = make(device);
  output_ = device == quantizer_.device() ? leaf_ : make(quantizer_.device());
  if (!tunable_ || !is_own()) return;
  const rh_quantizer_info& info = quantizer_.info();
  for (uint32_t i = 0; i < info.tunable_count; ++i)
    tunables_.push_back(allocate(*info.tunables[i], quantizer_.device()).fill_(info.tunables[i]->initial));
}

bool LayerQuantizer::forward() {
  if (std::exchange(written_, true)) return false;
  // The plugin writes through the leaf's storage, out of autograd's sight.
  quantizer_.forward(weight_, tunables_, output_.detach());
  if (!output_.is_same(leaf_)) leaf_.detach().copy_(output_);
  return true;
}

void LayerQuantizer::step(const at::Tensor& gradient, const LearningRates& rates) {
  written_ = false;
  const at::Tensor local = gradient.to(quantizer_.device()).contiguous();
  if (!quantizer().has_sign_step()) return step_with_gradients(local, rates);
  quantizer_.sign_step(weight_, tunables_, local, {rates.rounding, rates.range});
}

void LayerQuantizer::step_with_gradients(const at::Tensor& gradient, const LearningRates& rates) {
  std::vector<at::Tensor> gradients;
  for (const at::Tensor& t : tunables_) gradients.push_back(at::empty_like(t));
  quantizer_.backward(weight_, tunables_, gradient, gradients, {});
  const rh_quantizer_info& info = quantizer_.info();
  for (size_t i = 0; i < tunables_.size(); ++i) {
    const rh_tensor_spec& spec = *info.tunables[i];
    tunables_[i].sub_(gradients[i].sign_() * (spec.lr_group == RH_LR_RANGE ? rates.range : rates.rounding));
    tunables_[i].clamp_(spec.clamp_min, spec.clamp_max);
  }
}

void LayerQuantizer::keep_best(const at::Tensor& improved, bool ahead) {
  if (tunables_.empty()) return;
  if (best_.empty())
    for (const at::Tensor& t : tunables_) best_.push_back(t.clone());
  if (!ahead && !improved.item<bool>()) return;
  for (size_t i = 0; i < tunables_.size(); ++i) {
    const at::Tensor &now = tunables_[i], &best = best_[i];
    if (!ahead)
      best.copy_(now);
    else if (const auto call = block_kernels({now, best}); call && now.scalar_type() == at::kFloat)
      call->check(call->kernels->keep_best(call->queue, now.numel(), improved.const_data_ptr<bool>(),
                                           now.const_data_ptr<float>(), best.mutable_data_ptr<float>()));
    else
      at::where_out(best_[i], improved, now, best);
  }
}

void LayerQuantizer::restore_best() {
  if (best_.empty()) return;
  written_ = false;
  tunables_ = std::move(best_);
  best_.clear();
}

void set_owners(LayerQuantizers& layers, const Catalogue& catalogue) {
  Balance balance;
  for (auto& layer : layers)
    layer->set_owner(can_be_sent(layer->plan(), catalogue) ? balance.next(layer->weight().numel()) : 0);
}

void write_leaves(LayerQuantizers& layers, const std::function<bool(const LayerQuantizer&)>& which,
                  const WasRead& was_read) {
  for (auto& layer : layers) {
    if (!which(*layer) || !layer->is_own()) continue;
    const bool changed = layer->forward();
    if (was_read) was_read(*layer);
    for (int other = 0; other < rank_count(); ++other)
      if (other != this_rank()) post(other, changed ? layer->leaf() : at::Tensor());
  }
  if (rank_count() == 1) return;
  for (auto& layer : layers)
    if (which(*layer) && !layer->is_own())
      if (const at::Tensor written = receive(layer->owner()); written.defined()) layer->leaf().detach().copy_(written);
  ranks()->flush();
}

void prepare(LayerQuantizers& layers, const Importance& importance) {
  std::map<std::string, at::Tensor> shared;
  std::vector<at::Tensor> statistics;
  for (auto& layer : layers) {
    statistics.push_back(layer->measure());
    const rh_quantizer_info& info = layer->quantizer().info();
    const std::string& siblings = layer->plan().info.siblings;
    if (!statistics.back().defined() || siblings.empty() || !(info.flags & RH_QUANTIZER_SHARED_STATISTIC)) continue;
    at::Tensor& sum = shared[siblings];
    sum = sum.defined() ? reduced(info.reduce, sum, statistics.back()) : statistics.back();
  }
  for (size_t i = 0; i < layers.size(); ++i) {
    if (!layers[i]->is_own()) continue;
    const rh_quantizer_info& info = layers[i]->quantizer().info();
    const auto found = shared.find(layers[i]->plan().info.siblings);
    const bool share = found != shared.end() && (info.flags & RH_QUANTIZER_SHARED_STATISTIC);
    const Tensor* weights = importance_of(layers[i]->plan(), importance);
    layers[i]->prepare(share ? found->second : statistics[i], weights ? to_torch(*weights) : at::Tensor());
  }
}

}  // namespace roundhouse
