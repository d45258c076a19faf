// SPDX-License-Identifier: Apache-2.0
// How compressed-tensors stores a layer L of [rows, cols] weights in the encoding affine-int/1.
//
//   L.weight_packed      i32 [rows, ceil(cols * bits / 32)]  each row's codes as a bit stream; "pack-quantized"
//   L.weight_shape       i64 [2]  rows, cols; "pack-quantized"
//   L.weight             i8 [rows, cols]  codes less 2^(bits-1); "int-quantized"
//   L.weight_scale       f16 or bf16 [rows, groups]; may be negative
//   L.weight_zero_point  if asymmetric: i32 [ceil(rows * bits / 32), groups], each group's a bit stream down a column;
//                        "int-quantized": i8 [rows, groups], less 2^(bits-1)
//
// What is read besides: scales and zero points of one number for the tensor; a "naive-quantized" weight, as
// "int-quantized"; unpacked zero points beside packed codes, and codes that straddle no word, as older releases had them;
//   L.weight_g_idx       i32 [cols]  the group of each column (actorder); -1 in it: the groups are neighbours
#pragma once

#include <string>
#include <vector>

#include "config_groups.h"
#include "plugins/formats/lib/layer_reader.h"

namespace roundhouse::formats {

// `dtype`: of the scales.
void store_int_weight(TensorWriter& out, const rh_encoded_layer& encoded, bool packed, rh_data_type dtype);

class IntWeight : public StoredLayer {
 public:
  // Throws rh::Error when the tensors do not fit together.
  IntWeight(const std::string& name, const Json& arguments, const LayerReader::Tensors& tensors, rh_data_type dtype);

  void read_encoded(rh_tensor* const* tensors) const override;

 private:
  std::vector<uint8_t> codes() const;
  std::vector<uint8_t> zero_points() const;
  void unpack_numbers(const uint32_t* words, int64_t count, uint8_t* values, int64_t stride = 1) const;
  int64_t words(int64_t count) const;
  int64_t groups() const { return (cols() + group_cols_ - 1) / group_cols_; }
  int64_t scale_rows() const { return whole_tensor_ ? 1 : rows(); }
  uint8_t offset() const { return static_cast<uint8_t>(1 << (bits_ - 1)); }

  const int bits_;
  const bool symmetric_, whole_tensor_;
  bool straddling_ = true;  // codes lie across words
  int64_t group_cols_;
  const rh_tensor* codes_;
  const rh_tensor* scale_;
  const rh_tensor* zero_point_;
  const rh_tensor* group_index_;  // nullptr: groups are neighbours
};

}  // namespace roundhouse::formats
