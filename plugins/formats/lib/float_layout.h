// SPDX-License-Identifier: Apache-2.0
// How checkpoints store a layer L of [rows, cols] weights in the encodings scaled-fp8/1, mx/1 and nvfp/1
// (roundhouse/encoding.h).
//
//   L.weight               f8 [rows, cols]  codes of 8 bits
//   L.weight_packed        u8 [rows, cols * bits / 8]  codes of 4 and 6 bits, each row a little-endian bit stream: of
//                          two 4-bit codes in a byte the even column's is in the low bits
//   L.weight_scale         scaled-fp8/1: its scales, in the shape that the format wants; mx/1: u8 [rows, groups], E8M0;
//                          nvfp/1: f8_e4m3 [rows, groups], or u8 for ue5m3
//   L.weight_global_scale  f32 [1]; nvfp/1 with e4m3 scales
//
// The 4-bit integers of mx/1 are stored as a sign in bit 3 and a magnitude.
#pragma once

#include <optional>
#include <roundhouse/encoding/mx.hpp>
#include <roundhouse/encoding/nvfp.hpp>
#include <roundhouse/encoding/scaled_fp8.hpp>
#include <string>
#include <variant>
#include <vector>

#include "plugins/formats/lib/checkpoint.h"
#include "plugins/formats/lib/layer_reader.h"

namespace roundhouse::formats {

using FloatEncoding = std::variant<rh::ScaledFp8, rh::Mx, rh::Nvfp>;

// A weight's; nullopt: another encoding. Throws rh::Error for wrong parameters.
std::optional<FloatEncoding> float_encoding(const rh_encoding& encoding);
int code_bits(const FloatEncoding& encoding);
// The element type of the codes, as mx/1 names it: "fp8_e4m3", "fp4_e2m1".
const char* element_name(const FloatEncoding& encoding);

// Stores L.weight or L.weight_packed. Throws rh::Error when a row is no whole number of 32-bit words.
void add_codes(TensorWriter& out, const rh_encoded_layer& encoded);
// Stores the scales as `name`, and what belongs to them under L. `shape`: of as many elements as there are scales;
// empty: [rows of groups, groups of a row]. Without a scale (all 1) it stores an f32 [1].
void add_scales(TensorWriter& out, const std::string& name, const rh_encoded_layer& encoded,
                std::vector<int64_t> shape = {});

// The encoding of stored 8-bit floats, by the shape of their scale: one number, one a row, or one for each block of
// block_rows x block_cols (0: there are no blocks). Throws rh::Error when it is none of them.
rh::ScaledFp8 stored_fp8(const std::string& name, const rh_tensor* weight, const rh_tensor* scale,
                         int64_t block_rows = 0, int64_t block_cols = 0);

// A layer that is stored so. Scales of scaled-fp8/1 may be exponents as well, E8M0.
class FloatLayer : public StoredLayer {
 public:
  struct Tensors {
    const rh_tensor* codes;
    const rh_tensor* scale;
    const rh_tensor* global_scale;  // nullptr: 1
    bool inverse = false;           // weights are multiplied with global_scale, not divided by it, as ModelOpt's are
  };
  // group_rows and group_cols of ScaledFp8 may be 0: all of the layer's. Throws rh::Error when the tensors do not fit
  // together.
  FloatLayer(const std::string& name, FloatEncoding encoding, const Tensors& tensors, rh_data_type dtype);

  // With an inverse global scale the weight is code * (scale * global_scale), as it was meant. What read_encoded gives
  // then decodes to others in the last bits, because nvfp/1 divides.
  void read(rh_tensor& output) const override;
  void read_encoded(rh_tensor* const* tensors) const override;

 private:
  std::vector<uint8_t> unpacked_codes() const;

  FloatEncoding encoding_;
  Tensors tensors_;
};

}  // namespace roundhouse::formats
