// One layer's weight in the data type "int".
#pragma once

#include <roundhouse/plugin.hpp>
#include <string>

#include "kernels/affine.h"

// What the kernels know of a layer. Throws rh::Error for element types and thresholds that it cannot have.
roundhouse::kernels::AffineLayer make_affine_layer(const rh_layer& layer);

// Tunables: v (rounding offset in codes), min_scale and max_scale (factors of the group's range).
// States: the group's range. Results: scale and, asymmetric, zp.
class IntQuantizer : public rh::Quantizer {
 public:
  explicit IntQuantizer(const rh_layer& layer);

  uint64_t workspace_size(int32_t operation, int32_t device_type, int64_t rows) const override;
  void prepare(const rh_exec& exec, const rh_prepare_args& args) override;
  void forward(const rh_exec& exec, const rh_forward_args& args) override;
  void backward(const rh_exec& exec, const rh_backward_args& args) override;
  void sign_step(const rh_exec& exec, const rh_sign_step_args& args) override;
  void encode(const rh_exec& exec, const rh_encode_args& args) override;
  void decode(const rh_exec& exec, const rh_decode_args& args) override;

 private:
  void check_range(const float* low, const float* high) const;

  std::string name_;
  roundhouse::kernels::AffineLayer layer_;
};
