// SPDX-License-Identifier: Apache-2.0
// Quantization of the inputs of linear layers.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "host/discovery/catalogue.h"
#include "host/model/structure.h"
#include "host/plan/plan.h"
#include "host/tuning/device_quantizer.h"
#include "host/tuning/results.h"
#include "host/tuning/units.h"

namespace roundhouse {

// The quantizer of an input that one or several linears read. Its range is taken from each input, or calibrated: from
// the statistic of all inputs that measure() has seen.
class ActivationQuantizer {
 public:
  ActivationQuantizer(const ActivationQuantizer&) = delete;
  ActivationQuantizer& operator=(const ActivationQuantizer&) = delete;
  // layer: the first of the linears. dtype: of the inputs.
  ActivationQuantizer(Catalogue& catalogue, const LayerPlan& layer, at::ScalarType dtype, at::Device device);
  // For float32 inputs that were quantized as `encoding` says, with its tensors.
  ActivationQuantizer(const LoadedDtype& dtype, const LinearInfo& layer, const rh_encoding& encoding,
                      const TensorSet& encoded, at::Device device);

  const std::string& layer() const { return layer_; }
  // Of the experts that the linear belongs to, or "".
  const std::string& stack() const { return stack_; }
  void add_reader() { ++readers_; }
  const DeviceQuantizer& on_device() const { return quantizer_; }

  bool calibrated() const { return quantizer_.info().statistic; }
  // input: of one unit (units.h): the `unit`th of those whose statistics are joined, where some may have no input.
  void measure(const at::Tensor& input, int64_t unit) {
    measured_.skip_to(unit);
    measured_.add(quantizer_.measure(rows(input)));
  }
  // Of all that was measured since the last call, on every rank; undefined: nothing was. Throws Error when it is not
  // finite.
  at::Tensor take_statistic();
  at::Tensor joined(const at::Tensor& a, const at::Tensor& b) { return reduced(quantizer_.info().reduce, a, b); }
  // statistic: undefined unless calibrated.
  void prepare(const at::Tensor& statistic);

  // The input [..., in_features] quantized, once for all its readers. Differentiable: with the plugin's gradient, or
  // straight through where it has none.
  at::Tensor forward(const at::Tensor& input);

  // The tensors of the calibrated range, on the CPU.
  std::vector<Tensor> encode() { return quantizer_.encode({}, {}); }
  const rh_encoding& encoding() const { return *quantizer_.info().encoding; }

 private:
  struct Gradient;

  // [tokens, in_features] on the quantizer's device.
  at::Tensor rows(const at::Tensor& tensor) const;
  at::Tensor quantized(const at::Tensor& input);
  at::Tensor gradient(const at::Tensor& input, const at::Tensor& grad_output);

  std::string layer_, stack_;
  DeviceQuantizer quantizer_;
  UnitTree measured_{
      [this](const at::Tensor& a, const at::Tensor& b) { return reduced(quantizer_.info().reduce, a, b); }};
  int64_t readers_ = 0, served_ = 0;
  at::Tensor last_input_, last_output_;  // until all readers are served
};

// The activation quantizers of some layers. Linears of a block that read the same input and have the same scheme for
// it share one: a statistic of theirs is shared by itself.
class Activations {
 public:
  Activations(Catalogue& catalogue, const std::vector<const LayerPlan*>& layers, at::ScalarType dtype,
              at::Device device);

  bool empty() const { return quantizers_.empty(); }
  const std::vector<std::unique_ptr<ActivationQuantizer>>& quantizers() const { return quantizers_; }
  // Whether a range of theirs is calibrated.
  bool calibrated() const;
  // Takes the input of a linear into the ranges.
  void measure(const LinearInfo& linear, const at::Tensor& input, int64_t unit);
  // The statistic of each layer with a calibrated range, of what was measured since the last call. few: whether a layer
  // is an expert's that was given too little for one of its own; it has that of all experts then.
  ActivationRanges take_ranges(const std::function<bool(const std::string& layer)>& few);
  // Throws Error when a calibrated range is missing.
  void prepare(const ActivationRanges& ranges);
  // An InputHook: the input, quantized where the layer's scheme says so.
  at::Tensor forward(const LinearInfo& linear, const at::Tensor& input);

  // Of a layer by its name, or NULL.
  ActivationQuantizer* find(const std::string& layer) const;

 private:
  std::vector<std::unique_ptr<ActivationQuantizer>> quantizers_;
  std::unordered_map<std::string, ActivationQuantizer*> by_layer_;
};

}  // namespace roundhouse
