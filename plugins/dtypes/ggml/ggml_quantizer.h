// SPDX-License-Identifier: Apache-2.0
// One layer's weight as blocks of ggml.
#pragma once

#include <roundhouse/plugin.hpp>
#include <string>

#include "block_type.h"
#include "kernels/ggml.h"

namespace roundhouse::ggml {

// Whether there is arithmetic of auto-round's own that no block holds.
bool has_reference(BlockType type);
// Whether the options ask for it. Throws rh::Error for options that the type does not have.
bool wants_reference(BlockType type, const rh_scheme& scheme);

// What the kernels know of a layer. Throws rh::Error for element types and options that it cannot have.
kernels::GgmlLayer make_ggml_layer(BlockType type, const rh_layer& layer);

// Tunables: v (rounding offset in codes) and, unless scales are searched, min_scale and max_scale (factors of a group's
// range). States: the groups' ranges, or what the search found. Results: scales and minima as the block has them.
class GgmlQuantizer : public rh::Quantizer {
 public:
  GgmlQuantizer(BlockType type, const rh_layer& layer);

  void prepare(const rh_exec& exec, const rh_prepare_args& args) override;
  void forward(const rh_exec& exec, const rh_forward_args& args) override;
  void backward(const rh_exec& exec, const rh_backward_args& args) override;
  bool has_sign_step() const override { return true; }
  void sign_step(const rh_exec& exec, const rh_sign_step_args& args) override;
  void encode(const rh_exec& exec, const rh_encode_args& args) override;
  void decode(const rh_exec& exec, const rh_decode_args& args) override;

 private:
  kernels::GgmlInput input_of(const rh_tensor* weight, const rh_tensor* const* tunables,
                              const rh_tensor* const* states) const;
  void search(const rh_prepare_args& args) const;
  // Where `count` elements from `first` on are.
  std::string place(int64_t first, int64_t count) const;
  // Throw for NaN or infinity among the weights, and for blocks whose scales are beyond float16.
  void check_finite(const float* low) const;
  void check_scales(const float* low, const float* high, const kernels::GgmlInput& input) const;

  BlockType type_;
  std::string name_;
  kernels::GgmlLayer layer_;
  int64_t matrix_rows_;  // of one matrix of a batch
};

}  // namespace roundhouse::ggml
