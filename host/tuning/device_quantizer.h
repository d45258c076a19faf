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
  // Nothing else may be asked of this then.
  Quantizer take_plugin() { return std::move(plugin_); }
  const rh_quantizer_info& info() const { return plugin_.info(); }

  // An undefined tensor when the plugin declares no statistic.
  at::Tensor measure(const at::Tensor& input);
  void prepare(const at::Tensor& input, const at::Tensor& importance, const at::Tensor& statistic) {
    prepare(input, importance, statistic, {});
  }
  // encoded: the encoding's tensors.
  void prepare(const TensorSet& encoded);
  void forward(const at::Tensor& input, const std::vector<at::Tensor>& tunables, const at::Tensor& output);
  void backward(const at::Tensor& input, const std::vector<at::Tensor>& tunables, const at::Tensor& grad_output,
                const std::vector<at::Tensor>& grad_tunables, const at::Tensor& grad_input);
  void sign_step(const at::Tensor& input, const std::vector<at::Tensor>& tunables, const at::Tensor& grad_output,
                 const std::vector<at::Tensor>& learning_rates);
  // The encoding's tensors, on the CPU. Throws Error as check() does.
  std::vector<Tensor> encode(const at::Tensor& input, const std::vector<at::Tensor>& tunables);

  // Where kernels tell what they cannot represent, i32 [1] on the device; undefined on the CPU, where calls fail.
  const at::Tensor& status() const { return status_; }
  void require_represented(int32_t status) const { plugin_.require_represented(static_cast<uint32_t>(status)); }
  // Waits for the device, and throws Error for what kernels found.
  void check() const {
    if (status_.defined()) require_represented(status_.item<int32_t>());
  }

 private:
  void make_tensors();
  Exec exec(at::Device device);
  void prepare(const at::Tensor& input, const at::Tensor& importance, const at::Tensor& statistic,
               const std::vector<at::Tensor>& encoded);

  Quantizer plugin_;
  at::Device device_;
  at::Tensor status_;
  std::vector<at::Tensor> states_;
  at::Tensor workspace_;
};

// What the kernels of some quantizers found, which no call could return because that would have meant to wait.
class DeviceStatus {
 public:
  // The quantizers must outlive it.
  explicit DeviceStatus(std::vector<const DeviceQuantizer*> quantizers);
  // Begins to copy it to the host.
  void fetch();
  // Throws Error with the name of the first that found something. REQUIRES: what the last fetch() began is done.
  void check() const;

 private:
  std::vector<const DeviceQuantizer*> quantizers_;  // with a status
  at::Tensor found_;                                // i32 [quantizers], in host memory
};

}  // namespace roundhouse
