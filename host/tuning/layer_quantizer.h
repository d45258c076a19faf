// SPDX-License-Identifier: Apache-2.0
// One linear layer under quantization: its weight, and the tunables that its quantizer declared.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <memory>
#include <vector>

#include "host/discovery/catalogue.h"
#include "host/export/encoded_layer.h"
#include "host/plan/plan.h"
#include "host/ranks/ranks.h"
#include "host/tuning/device_quantizer.h"
#include "host/tuning/weight_gradient.h"

namespace roundhouse {

struct LearningRates {
  at::Tensor rounding, range;  // 0-d f32, on the quantizer's device
};

// The weight and the tunables live on the quantizer's device; where that is not the run's, only the quantized weight
// and its gradient travel.
class LayerQuantizer {
 public:
  // weight: [out, in] in the checkpoint's element type.
  LayerQuantizer(Catalogue& catalogue, const LayerPlan& plan, const Tensor& weight, at::Device device);

  const LayerPlan& plan() const { return plan_; }
  // The rank that has its tunables and encodes it; on the others its leaf alone is of use.
  int owner() const { return owner_; }
  bool is_own() const { return owner_ == this_rank(); }
  void set_owner(int rank) { owner_ = rank; }
  Quantizer& quantizer() { return quantizer_.plugin(); }
  at::Device device() const { return quantizer_.device(); }
  const DeviceQuantizer& on_device() const { return quantizer_; }
  const at::Tensor& weight() const { return weight_; }  // in the checkpoint's type, on the quantizer's device

  // The statistic that siblings share, or an undefined tensor.
  at::Tensor measure() { return quantizer_.measure(weight_); }
  // importance: f32 [in], or undefined
  void prepare(const at::Tensor& statistic, const at::Tensor& importance = {});

  // Whether the plugin can tune this layer and the plan asks for it.
  bool tunable() const { return tunable_; }
  // The quantized and dequantized weight in the compute type: a leaf whose gradient step() reads.
  at::Tensor& leaf() { return leaf_; }
  // Allocates it, and the tunables if they are this rank's.
  void make_leaf(at::ScalarType compute_type, at::Device device);
  // Writes the quantized weight of the present tunables into the leaf. False: it is there.
  bool forward();
  // Of the leaf, while an iteration's units pass.
  WeightGradient& gradient() { return gradient_; }
  // One step of sign descent along `gradient`, that of the leaf.
  void step(const at::Tensor& gradient, const LearningRates& rates);
  // Keeps the tunables if `improved`, 0-d bool on the quantizer's device. ahead: without looking at it, which would wait
  // for the device; more work.
  void keep_best(const at::Tensor& improved, bool ahead);
  void restore_best();

  // The encoding's tensors, on the CPU.
  std::vector<Tensor> encode() { return quantizer_.encode(weight_, tunables_); }
  // The layer for the formats, without tensors of its activation. Nothing else may be asked of this then.
  EncodedLayer take_encoded(Tensor bias);
  const rh_encoding& encoding() const { return *quantizer_.info().encoding; }

 private:
  void step_with_gradients(const at::Tensor& gradient, const LearningRates& rates);

  const LayerPlan& plan_;
  int owner_ = this_rank();
  DeviceQuantizer quantizer_;
  at::Tensor weight_;
  bool tunable_ = false;
  bool written_ = false;      // into the leaf, since the tunables changed
  at::Tensor leaf_, output_;  // output_ is the leaf itself when it lives on the quantizer's device
  std::vector<at::Tensor> tunables_, best_;
  WeightGradient gradient_;
};

// The layers of a block.
using LayerQuantizers = std::vector<std::unique_ptr<LayerQuantizer>>;

// Divides them among the ranks; before, each rank has all.
void set_owners(LayerQuantizers& layers, const Catalogue& catalogue);

// forward() of those for which `which` holds, by their owners; every rank has the leaves then. was_read: called with each
// layer of this rank when its weight was read.
using WasRead = std::function<void(const LayerQuantizer&)>;
void write_leaves(LayerQuantizers& layers, const std::function<bool(const LayerQuantizer&)>& which,
                  const WasRead& was_read = {});

// Prepares this rank's: a statistic that siblings share is reduced over all layers that read the same input. importance: for
// layers that are searched.
void prepare(LayerQuantizers& layers, const Importance& importance);

}  // namespace roundhouse
