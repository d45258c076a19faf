// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/rounded_source.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <unordered_map>

#include "host/model/torch_tensor.h"
#include "host/tuning/layer_quantizer.h"

namespace roundhouse {
namespace {

class RoundedSource : public TensorSource {
 public:
  RoundedSource(const Plan& plan, TensorSource& source, Catalogue& catalogue, const Importance& importance,
                at::Device device)
      : source_(source), catalogue_(catalogue), importance_(importance), device_(device) {
    for (LayerPlan layer : plan.layers) {
      if (!layer.scheme.weight) continue;
      if (is_tuned(layer.scheme.weight->rounding)) layer.scheme.weight->rounding = Rounding::kPlain;
      std::string name = layer.info.name + ".weight";
      layers_.emplace(std::move(name), std::move(layer));
    }
  }
  std::vector<std::string> names() const override { return source_.names(); }
  bool contains(const std::string& name) const override { return source_.contains(name); }
  std::string location() const override { return source_.location(); }
  bool checks_finite(const std::string& name) const override {
    return !layers_.contains(name) && source_.checks_finite(name);
  }
  Tensor load(const std::string& name) override {
    if (auto ready = ready_.extract(name)) return std::move(ready.mapped());
    const auto found = layers_.find(name);
    if (found == layers_.end()) return source_.load(name);
    const at::NoGradGuard no_grad;
    LayerQuantizers layers;
    const LayerPlan& plan = found->second;
    layers.push_back(std::make_unique<LayerQuantizer>(catalogue_, plan, source_.load(name), device_));
    if (!plan.info.siblings.empty() && (layers[0]->quantizer().info().flags & RH_QUANTIZER_SHARED_STATISTIC))
      for (const auto& [sibling, other] : layers_)
        if (sibling != name && other.block == plan.block && other.info.siblings == plan.info.siblings)
          layers.push_back(std::make_unique<LayerQuantizer>(catalogue_, other, source_.load(sibling), device_));
    prepare(layers, importance_);
    for (const auto& layer : layers) layer->on_device().check();
    for (auto& layer : layers) {
      layer->make_leaf(to_torch(layer->plan().dtype), layer->device());
      layer->forward();
      ready_[layer->plan().info.name + ".weight"] = from_torch(layer->leaf().cpu());
    }
    return std::move(ready_.extract(name).mapped());
  }

 private:
  TensorSource& source_;
  Catalogue& catalogue_;
  const Importance& importance_;
  at::Device device_;
  std::unordered_map<std::string, LayerPlan> layers_;
  std::unordered_map<std::string, Tensor> ready_;  // siblings of a weight that was asked for
};

}  // namespace

std::unique_ptr<TensorSource> rounded_source(const Plan& plan, TensorSource& source, Catalogue& catalogue,
                                             const Importance& importance, const std::string& device) {
  return std::make_unique<RoundedSource>(plan, source, catalogue, importance, at::Device(device));
}

}  // namespace roundhouse
