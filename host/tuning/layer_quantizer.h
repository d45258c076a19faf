// One linear layer under quantization: its quantizer and the tensors that the quantizer declared.
#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <vector>

#include "host/model/decoder.h"
#include "host/plugins/catalogue.h"
#include "host/plugins/quantizer.h"
#include "host/recipe/plan.h"

namespace roundhouse {

struct LearningRates {
  at::Tensor rounding, range;  // 0-d f32, on the device
};

// The weight, tunables and states live on the plugin's device: the run's, or the CPU when the plugin has no code for
// the run's. Only the quantized weight and its gradient travel then.
class LayerQuantizer {
 public:
  // weight: [out, in] in the checkpoint's element type.
  LayerQuantizer(Catalogue& catalogue, const LayerPlan& plan, const Tensor& weight, at::Device device);

  const LayerPlan& plan() const { return plan_; }
  Quantizer& quantizer() { return *quantizer_; }

  // The statistic that siblings or batches share, or an undefined tensor.
  at::Tensor measure();
  void prepare(const at::Tensor& statistic);

  // Whether the plugin can tune this layer and the plan asks for it.
  bool tunable() const { return !tunables_.empty(); }
  // The quantized and dequantized weight in the compute type: a leaf whose gradient step() reads.
  at::Tensor& leaf() { return leaf_; }
  void make_leaf(at::ScalarType compute_type, at::Device device);
  // Writes the quantized weight of the present tunables into the leaf.
  void forward();
  // One step of sign descent along `gradient`, that of the leaf.
  void step(const at::Tensor& gradient, const LearningRates& rates);
  void keep_best();
  void restore_best();

  // The encoding's tensors, on the CPU.
  std::vector<Tensor> encode();
  const rh_encoding& encoding() const { return *quantizer_->info().encoding; }

 private:
  Exec exec();
  void step_with_gradients(const at::Tensor& gradient, const LearningRates& rates);

  const LayerPlan& plan_;
  at::Device device_;  // the plugin's
  at::Tensor weight_;
  at::Tensor leaf_, output_;  // output_ is the leaf itself when it lives on the plugin's device
  std::unique_ptr<Quantizer> quantizer_;
  std::vector<at::Tensor> tunables_, best_, states_;
  at::Tensor workspace_;
};

}  // namespace roundhouse
