// SPDX-License-Identifier: Apache-2.0
// A plugin's quantizer for libtorch's tensors, with its states.
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "host/abi/quantizer.h"

namespace roundhouse {

// Two statistics as one. how: RH_REDUCE_*
at::Tensor reduced(int32_t how, const at::Tensor& a, const at::Tensor& b);

// Lives on the plugin's device: the run's, or the CPU when the plugin has no code for the run's. All tensors of a call
// are contiguous and on that device; undefined ones and empty lists are NULL for the plugin.
class DeviceQuantizer {
 public:
  DeviceQuantizer(const LoadedDtype& dtype, const TensorScheme& scheme, const QuantizerTarget& target,
                  at::Device device);

  // For tensors that were quantized before.
  DeviceQuantizer(const LoadedDtype& dtype, const rh_encoding& encoding, const QuantizerTarget& target,
                  at::Device device);

  at::Device device() const { return device_; }
  Quantizer& plugin() { return plugin_; }
  const rh_quantizer_info& info() const { return plugin_.info(); }

  // An undefined tensor when the plugin declares no statistic.
  at::Tensor measure(const at::Tensor& input);
  void prepare(const at::Tensor& input, const at::Tensor& importance, const at::Tensor& statistic);
  // encoded: the encoding's tensors.
  void prepare(const TensorSet& encoded);
  void forward(const at::Tensor& input, const std::vector<at::Tensor>& tunables, const at::Tensor& output);
  void backward(const at::Tensor& input, const std::vector<at::Tensor>& tunables, const at::Tensor& grad_output,
                const std::vector<at::Tensor>& grad_tunables, const at::Tensor& grad_input);
  void sign_step(const at::Tensor& input, const std::vector<at::Tensor>& tunables, const at::Tensor& grad_output,
                 const std::vector<at::Tensor>& learning_rates);
  // The encoding's tensors, on the CPU.
  std::vector<Tensor> encode(const at::Tensor& input, const std::vector<at::Tensor>& tunables);

 private:
  Exec exec();

  Quantizer plugin_;
  at::Device device_;
  std::vector<at::Tensor> states_;
  at::Tensor workspace_;
};

}  // namespace roundhouse
