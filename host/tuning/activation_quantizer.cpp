// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/activation_quantizer.h"

#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "host/base/error.h"
#include "host/model/torch_tensor.h"
#include "host/tuning/shares.h"

namespace roundhouse {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct ActivationQuantizer::Gradient : torch::autograd::Function<Gradient> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input, ActivationQuantizer* quantizer) {
    context->saved_data["quantizer"] = reinterpret_cast<int64_t>(quantizer);
    if (quantizer->quantizer_.plugin().has_backward()) context->save_for_backward({input});
    return quantizer->quantized(input);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    if (saved.empty()) return {gradients[0], {}};
    auto* quantizer = reinterpret_cast<ActivationQuantizer*>(context->saved_data["quantizer"].toInt());
    return {quantizer->gradient(saved[0], gradients[0]), {}};
  }
};

ActivationQuantizer::ActivationQuantizer(Catalogue& catalogue, const LayerPlan& layer, at::ScalarType dtype,
                                         at::Device device)
    : layer_(layer.info.name),
      stack_(layer.info.stack ? layer.info.stack->name : ""),
      quantizer_(
          catalogue.dtype(layer.scheme.activation->dtype), *layer.scheme.activation,
          {layer.info.name, layer.info.role, -1, layer.info.in_features, from_torch(dtype), RH_TARGET_ACTIVATION},
          device) {}

ActivationQuantizer::ActivationQuantizer(const LoadedDtype& dtype, const LinearInfo& layer, const rh_encoding& encoding,
                                         const TensorSet& encoded, at::Device device)
    : layer_(layer.name),
      quantizer_(dtype, encoding, {layer.name, layer.role, -1, layer.in_features, DType::kF32, RH_TARGET_ACTIVATION},
                 device) {
  quantizer_.prepare(encoded);
  quantizer_.check();
}

at::Tensor ActivationQuantizer::rows(const at::Tensor& tensor) const {
  return tensor.detach().to(quantizer_.device()).contiguous().view({-1, tensor.size(-1)});
}

at::Tensor ActivationQuantizer::take_statistic() {
  const at::Tensor statistic =
      joined_over_ranks(measured_.take(), [this](const at::Tensor& a, const at::Tensor& b) { return joined(a, b); });
  if (statistic.defined() && !at::isfinite(statistic).all().item<bool>())
    throw Error(cat("the inputs of ", layer_, " are not finite on the calibration texts, so they have no range: the ",
                    "block overflows in this arithmetic; leave the layer's activations at act_bits 16"));
  return statistic;
}

void ActivationQuantizer::prepare(const at::Tensor& statistic) {
  quantizer_.prepare({}, {}, statistic.defined() ? statistic.to(quantizer_.device()) : statistic);
  if (statistic.defined()) quantizer_.check();  // a run has waited for the statistic too
}

at::Tensor ActivationQuantizer::quantized(const at::Tensor& input) {
  const at::Tensor local = rows(input), output = at::empty_like(local);
  quantizer_.forward(local, {}, output);
  return output.view(input.sizes()).to(input.device());
}

at::Tensor ActivationQuantizer::gradient(const at::Tensor& input, const at::Tensor& grad_output) {
  const at::Tensor local = rows(input), result = at::empty_like(local);
  const std::vector<at::Tensor> unwanted(quantizer_.info().tunable_count);
  quantizer_.backward(local, {}, rows(grad_output), unwanted, result);
  return result.view(input.sizes()).to(input.device());
}

at::Tensor ActivationQuantizer::forward(const at::Tensor& input) {
  if (!input.is_same(last_input_)) {
    last_output_ = Gradient::apply(input, this);
    last_input_ = input;
    served_ = 0;
  }
  const at::Tensor output = last_output_;
  if (++served_ == readers_) {
    last_input_.reset();
    last_output_.reset();
  }
  return output;
}

Activations::Activations(Catalogue& catalogue, const std::vector<const LayerPlan*>& layers, at::ScalarType dtype,
                         at::Device device) {
  std::vector<std::pair<const LayerPlan*, ActivationQuantizer*>> shared;
  for (const LayerPlan* layer : layers) {
    if (!layer->scheme.activation) continue;
    const auto same = [&](const auto& other) {
      return !layer->info.siblings.empty() && other.first->block == layer->block &&
             other.first->info.siblings == layer->info.siblings &&
             other.first->scheme.activation == layer->scheme.activation;
    };
    const auto found = std::find_if(shared.begin(), shared.end(), same);
    if (found == shared.end())
      quantizers_.push_back(std::make_unique<ActivationQuantizer>(catalogue, *layer, dtype, device));
    ActivationQuantizer* quantizer = found == shared.end() ? quantizers_.back().get() : found->second;
    quantizer->add_reader();
    by_layer_[layer->info.name] = quantizer;
    shared.emplace_back(layer, quantizer);
  }
}

bool Activations::calibrated() const {
  return std::any_of(quantizers_.begin(), quantizers_.end(), [](const auto& q) { return q->calibrated(); });
}

ActivationQuantizer* Activations::find(const std::string& layer) const {
  const auto found = by_layer_.find(layer);
  return found == by_layer_.end() ? nullptr : found->second;
}

void Activations::measure(const LinearInfo& linear, const at::Tensor& input, int64_t unit) {
  ActivationQuantizer* quantizer = find(linear.name);
  if (quantizer && quantizer->calibrated() && quantizer->layer() == linear.name) quantizer->measure(input, unit);
}

ActivationRanges Activations::take_ranges(const std::function<bool(const std::string& layer)>& few) {
  std::unordered_map<const ActivationQuantizer*, at::Tensor> measured;
  std::unordered_map<std::string, at::Tensor> of_stacks;
  for (const auto& quantizer : quantizers_) {
    if (!quantizer->calibrated()) continue;
    const at::Tensor statistic = measured[quantizer.get()] = quantizer->take_statistic();
    if (quantizer->stack().empty() || !statistic.defined()) continue;
    at::Tensor& all = of_stacks[quantizer->stack()];
    all = all.defined() ? quantizer->joined(all, statistic) : statistic;
  }
  std::unordered_map<const ActivationQuantizer*, Tensor> statistics;
  for (const auto& quantizer : quantizers_) {
    if (!quantizer->calibrated()) continue;
    const at::Tensor statistic = few(quantizer->layer()) ? of_stacks[quantizer->stack()] : measured.at(quantizer.get());
    if (!statistic.defined()) throw Error(cat("the inputs of ", quantizer->layer(), " were not calibrated"));
    statistics[quantizer.get()] = from_torch(statistic.cpu());
  }
  ActivationRanges ranges;
  for (const auto& [layer, quantizer] : by_layer_)
    if (quantizer->calibrated()) ranges[layer] = statistics.at(quantizer);
  return ranges;
}

void Activations::prepare(const ActivationRanges& ranges) {
  for (auto& quantizer : quantizers_) {
    const auto range = ranges.find(quantizer->layer());
    if (quantizer->calibrated() && range == ranges.end())
      throw Error(cat("the inputs of ", quantizer->layer(), " have no calibrated range"));
    quantizer->prepare(quantizer->calibrated() ? to_torch(range->second) : at::Tensor());
  }
}

at::Tensor Activations::forward(const LinearInfo& linear, const at::Tensor& input) {
  ActivationQuantizer* quantizer = find(linear.name);
  return quantizer ? quantizer->forward(input) : input;
}

}  // namespace roundhouse
