// SPDX-License-Identifier: Apache-2.0
// One layer's weight or activation in a data type of scaled small floats.
#pragma once

#include <roundhouse/plugin.hpp>
#include <string>

#include "kernels/scaled.h"

// How a data type quantizes a layer.
struct ScaledDtype {
  // The element, its rule and its slope; make_scaled_layer() fills in the rest.
  roundhouse::kernels::ScaledLayer layer;
  int element;      // RH_FP8_* or RH_MX_*
  int exponent;     // RH_MX_FLOOR and so on, of shared exponents
  bool max_scale;   // is a tunable
  bool calibrated;  // activations: the range, or with kNvfp4 the global scale, is measured beforehand
};

// The scheme of an input that was quantized with groups of group_cols features, or (0) one for the whole tensor.
rh_scheme input_scheme(const char* dtype, int bits, int64_t group_cols, int64_t cols, int32_t dynamic);

// The layer with its shape, groups and element types. Throws rh::Error for types that it cannot have.
roundhouse::kernels::ScaledLayer make_scaled_layer(const rh_layer& layer, roundhouse::kernels::ScaledLayer kind);

// Refuses what no data type of the family takes.
void check_scaled(const rh_layer& layer, const std::string& dtype);

// Tunables: v (rounding offset in units of the scale), max_scale (factor of the group's largest magnitude).
// States: "amax", each group's largest magnitude, already multiplied with what the search found, or, when the layer says
// that it is given, its scale; "tensor_amax", the statistic, or the given global scale. Results: "scale".
class ScaledQuantizer : public rh::Quantizer {
 public:
  ScaledQuantizer(const rh_layer& layer, ScaledDtype dtype);

  uint64_t workspace_size(int32_t operation, int32_t device_type, int64_t rows) const override;
  void measure(const rh_exec& exec, const rh_measure_args& args) override;
  void prepare(const rh_exec& exec, const rh_prepare_args& args) override;
  void forward(const rh_exec& exec, const rh_forward_args& args) override;
  void backward(const rh_exec& exec, const rh_backward_args& args) override;
  bool has_sign_step() const override { return true; }
  void sign_step(const rh_exec& exec, const rh_sign_step_args& args) override;
  void encode(const rh_exec& exec, const rh_encode_args& args) override;
  void decode(const rh_exec& exec, const rh_decode_args& args) override;

 private:
  struct Call {
    roundhouse::kernels::ScaledLayer layer;
    roundhouse::kernels::ScaledInput input;
    float* sums;  // workspace of backward and sign_step
  };
  rh::Encoding made_encoding() const;
  roundhouse::kernels::ScaledLayer layer_of(int64_t rows, bool tuned) const;
  Call call(const rh_exec& exec, const rh_tensor* input, const rh_tensor* const* tunables,
            const rh_tensor* const* states) const;
  void check_range(int64_t groups, const float* maximum, const float* largest) const;
  roundhouse::kernels::ScaledCodes codes_of(rh_tensor* const* tensors) const;

  std::string name_;
  ScaledDtype dtype_;
  roundhouse::kernels::ScaledLayer layer_;  // of an activation, rows and group_rows are those of each input
  bool activation_, whole_tensor_, block_, searched_;
  rh::Specs statistic_;
  int v_ = -1, max_scale_ = -1;      // places among the tunables, -1: none
  int maximum_ = -1, largest_ = -1;  // among the states
};
