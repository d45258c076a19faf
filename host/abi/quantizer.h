// SPDX-License-Identifier: Apache-2.0
// A plugin's quantizer for one layer, with C++ lifetime and errors that say where.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "host/abi/loaded.h"
#include "host/base/scheme.h"
#include "host/base/stack.h"
#include "host/base/tensor.h"

namespace roundhouse {

// What a quantizer is made for: a layer's weight [rows, cols], or its input [tokens, cols].
struct QuantizerTarget {
  std::string layer;  // "model.layers.0.mlp.down_proj"
  std::string role;   // "down_proj", or ""
  int64_t rows = 0;   // weight: out_features; activation: -1
  int64_t cols = 0;   // in_features
  DType dtype = DType::kF32;
  int32_t target = RH_TARGET_WEIGHT;
  std::optional<StackPlace> stack = std::nullopt;
};

// Where a call runs.
struct Exec {
  rh_device device{RH_DEVICE_CPU, 0};
  void* stream = nullptr;  // cudaStream_t
  // Gives at least so many bytes on `device`, 256-byte aligned, that stay valid until the call's work is done. Needed
  // on CUDA only; on the CPU the quantizer has its own.
  std::function<void*(uint64_t)> workspace;
  uint32_t* status = nullptr;  // of rh_exec
};

// Host tensors as a plugin declares them, with the pointer arrays that calls take.
class TensorSet {
 public:
  TensorSet() = default;
  // Allocates; every element has the declared initial value.
  TensorSet(const rh_tensor_spec* const* specs, uint32_t count);
  TensorSet(TensorSet&&) = default;
  TensorSet& operator=(TensorSet&&) = default;

  size_t size() const { return tensors_.size(); }
  const std::string& name(size_t i) const { return names_[i]; }
  const Tensor& operator[](size_t i) const { return tensors_[i]; }
  const std::vector<Tensor>& tensors() const { return tensors_; }
  rh_tensor* const* data() { return pointers_.data(); }
  const rh_tensor* const* data() const { return pointers_.data(); }

 private:
  std::vector<std::string> names_;
  std::vector<Tensor> tensors_;
  std::vector<rh_tensor> views_;
  std::vector<rh_tensor*> pointers_;
};

// Why tensors that a plugin declares, or an encoding with its tensors, cannot be used; "" when they can.
std::string spec_fault(const rh_tensor_spec* const* specs, uint32_t count, const char* kind);
std::string encoding_fault(const rh_encoding* encoding);

// Throws Error when the data type cannot quantize the target: what a plan asks before any work. `scheme`: of that data
// type, here and below.
void check_dtype(const LoadedDtype& dtype, const TensorScheme& scheme, const QuantizerTarget& target);

// One thread at a time, as the plugin. Must not outlive the loaded plugin. Every failure throws Error naming the
// plugin, its path, the call and the layer. Arguments are those of the rh_*_args of dtype.h, whose comments hold.
class Quantizer {
 public:
  Quantizer(const LoadedDtype& dtype, const TensorScheme& scheme, const QuantizerTarget& target);
  // For tensors that were quantized before. REQUIRES: the data type has RH_SUPPORTS_ENCODED.
  Quantizer(const LoadedDtype& dtype, const rh_encoding& encoding, const QuantizerTarget& target);

  const rh_quantizer_info& info() const { return info_; }
  const std::string& layer() const { return layer_; }
  // Empty when info() declares no statistic.
  TensorSet statistic() const { return TensorSet(&info_.statistic, info_.statistic ? 1 : 0); }
  TensorSet states() const { return TensorSet(info_.states, info_.state_count); }
  TensorSet tunables() const { return TensorSet(info_.tunables, info_.tunable_count); }
  TensorSet results() const { return TensorSet(info_.results, info_.result_count); }
  TensorSet encoded() const;

  // Throws Error with what the bits of an rh_exec's status say, if any is set.
  void require_represented(uint32_t status) const;

  // Which of the given tensors each one of info's encoding is, by name: who makes an encoding orders them as it likes.
  // Throws Error where one is missing.
  std::vector<size_t> order_of(const TensorSet& given) const;

  bool has_backward() const { return RH_HAS(table_.get(), backward); }
  bool has_sign_step() const { return RH_HAS(table_.get(), sign_step); }
  bool can_tune() const { return info_.tunable_count > 0 && (has_backward() || has_sign_step()); }

  // measure() does nothing when info() declares no statistic; prepare(), when it declares no states.
  void measure(const Exec& exec, const rh_tensor& input, rh_tensor* statistic);
  void prepare(const Exec& exec, const rh_tensor* input, const rh_tensor* importance, const rh_tensor* statistic,
               rh_tensor* const* states, const rh_tensor* const* encoded = nullptr);
  void forward(const Exec& exec, const rh_tensor& input, const rh_tensor* const* tunables,
               const rh_tensor* const* states, rh_tensor& output, rh_tensor* const* results = nullptr);
  void backward(const Exec& exec, const rh_tensor& input, const rh_tensor* const* tunables,
                const rh_tensor* const* states, const rh_tensor& grad_output, rh_tensor* const* grad_tunables,
                rh_tensor* grad_input = nullptr);
  void sign_step(const Exec& exec, const rh_tensor& input, rh_tensor* const* tunables, const rh_tensor* const* states,
                 const rh_tensor& grad_output, const rh_tensor* const* learning_rates);
  void encode(const Exec& exec, const rh_tensor* input, const rh_tensor* const* tunables,
              const rh_tensor* const* states, rh_tensor* const* tensors);
  void encode(const Exec& exec, const rh_tensor& input, const rh_tensor* const* tunables,
              const rh_tensor* const* states, rh_tensor* const* tensors) {
    encode(exec, &input, tunables, states, tensors);
  }
  void decode(const Exec& exec, const rh_tensor* const* tensors, rh_tensor& output);

 private:
  struct Destroy {
    std::string plugin;  // for messages
    void operator()(rh_quantizer* table) const;
  };
  using Table = std::unique_ptr<rh_quantizer, Destroy>;

  void make(const LoadedDtype& dtype, const rh_layer& layer);
  void read_info();
  // Throws Error when there is none.
  const rh_encoding& encoding() const;
  // Of a call with this input, or without.
  int64_t rows_of(const rh_tensor* input) const { return input ? input->shape[0] : std::max<int64_t>(rows_, 0); }
  template <typename Args>
  void call(const char* name, rh_code (*function)(rh_quantizer*, const rh_exec*, const Args*, rh_error*),
            int32_t operation, int64_t rows, const Exec& exec, const Args& args);

  std::string plugin_;  // for messages
  std::string layer_;
  int64_t rows_;
  Table table_;
  rh_quantizer_info info_{};  // a copy; what the plugin's struct does not hold is zero
  std::vector<std::byte> workspace_;
  std::array<bool, RH_OP_DECODE + 1> watched_{};  // operations whose first call was a WatchedCall
};

}  // namespace roundhouse
