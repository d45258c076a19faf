// SPDX-License-Identifier: Apache-2.0
// One layer's weight on the affine kernels: all but prepare().
#pragma once

#include <roundhouse/plugin.hpp>
#include <string>

#include "kernels/affine.h"

// Tunables: v (rounding offset in codes), min_scale and max_scale (factors of the group's range).
// States: the group's range and, progressive, what is rounded in the weight's place and the factor of the result.
// Results: scale and zp (asymmetric); progressive, both scales.
class AffineQuantizer : public rh::Quantizer {
 public:
  uint64_t workspace_size(int32_t operation, int32_t device_type, int64_t rows) const override;
  void forward(const rh_exec& exec, const rh_forward_args& args) override;
  void backward(const rh_exec& exec, const rh_backward_args& args) override;
  bool has_sign_step() const override { return true; }
  void sign_step(const rh_exec& exec, const rh_sign_step_args& args) override;
  void encode(const rh_exec& exec, const rh_encode_args& args) override;
  void decode(const rh_exec& exec, const rh_decode_args& args) override;

 protected:
  // The order of the states.
  enum { kLow, kHigh, kRounded, kOuterScale };

  // Symmetric when progressive.
  AffineQuantizer(const rh_layer& layer, const roundhouse::kernels::AffineLayer& kernel_layer, bool progressive);

  // The range of `weight`'s groups. Throws, on the CPU, for a group that has NaN or a range beyond the scale's type.
  void find_range(const rh_exec& exec, const void* weight, float* low, float* high) const;

  const std::string name_;
  const roundhouse::kernels::AffineLayer layer_;

 private:
  roundhouse::kernels::AffineInput input_of(const rh_tensor* weight, const rh_tensor* const* tunables,
                                            const rh_tensor* const* states) const;
  roundhouse::kernels::AffineCodes codes_of(rh_tensor* const* tensors) const;
  void check_range(const float* low, const float* high) const;

  const bool progressive_;
};
