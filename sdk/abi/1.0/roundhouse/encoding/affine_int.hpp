// SPDX-License-Identifier: Apache-2.0
// Roundhouse SDK: the encoding affine-int/1 (../encoding.h), typed.
// A helper, no part of the ABI. C++17, no dependency.
#pragma once

#include "encoding.hpp"

namespace rh {

struct AffineInt : rh_affine_int {
  static constexpr const char* kId = RH_ENCODING_AFFINE_INT;

  rh_data_type scale = kF16;  // element type of the scales
  bool outer_scale = false;   // there is a second scale, of the whole tensor
  bool group_index = false;   // columns have groups of their own order

  AffineInt(int bits, bool symmetric, int64_t group_rows, int64_t group_cols, int dynamic = RH_INPUT_NONE)
      : rh_affine_int{bits, symmetric, group_rows, group_cols, dynamic, 0} {}

  // What a quantized layer, or its input, is made of. Throws Error for another encoding, or wrong parameters.
  static AffineInt of(const rh_encoding& encoding) {
    require_id(encoding, kId);
    AffineInt out(0, false, 0, 0);
    if (!rh_affine_int_parse(encoding.parameters_json, &out)) bad_parameters(encoding);
    if (const int i = tensor_index(encoding, "scale"); i >= 0) out.scale = encoding.tensors[i]->dtype;
    out.outer_scale = tensor_index(encoding, "outer_scale") >= 0;
    out.group_index = tensor_index(encoding, "group_index") >= 0;
    return out;
  }
  std::string json() const {
    return detail::printed([this](char* text, size_t size) { rh_affine_int_print(this, text, size); });
  }

  bool is_input() const { return dynamic != RH_INPUT_NONE; }
  int code_bits() const { return bits; }
  // The value of every zero point of a symmetric layer.
  uint8_t symmetric_zero_point() const { return static_cast<uint8_t>(1 << (bits - 1)); }
  // Groups of a weight's row, and rows of groups.
  int64_t groups(int64_t cols) const { return detail::groups_of(cols, group_cols); }
  int64_t scale_rows(int64_t rows) const { return detail::groups_of(rows, std::max<int64_t>(1, group_rows)); }
  // One group has a whole row, or the whole tensor.
  bool whole_row(int64_t cols) const { return group_cols >= cols; }

  Specs specs(int64_t rows, int64_t cols) const {
    Specs out;
    if (is_input()) {
      if (dynamic == RH_INPUT_CALIBRATED) out.add("scale", kF32, {1});
      return out;
    }
    out.add("codes", kU8, {rows, cols});
    out.add("scale", scale, {scale_rows(rows), groups(cols)});
    if (!symmetric) out.add("zero_point", kU8, {scale_rows(rows), groups(cols)});
    if (outer_scale) out.add("outer_scale", kF32, {1});
    if (group_index) out.add("group_index", kI32, {cols});
    return out;
  }

  // Writes the weight that `tensors` stand for; `encoding` names them. output: [rows, cols] of f32, f16 or bf16.
  // Throws Error when a tensor is missing or has another size.
  void decode(const rh_encoding& encoding, const rh_tensor* const* tensors, rh_tensor& output) const {
    const int64_t rows = output.shape[0], cols = output.shape[1], count = scale_rows(rows) * groups(cols);
    const detail::Tensors all(encoding, tensors);
    const auto* codes = data<const uint8_t>(all.get("codes", rows * cols));
    const rh_tensor& scales = all.get("scale", count);
    const uint8_t* zero_points = symmetric ? nullptr : data<const uint8_t>(all.get("zero_point", count));
    const int zero = symmetric_zero_point();
    const float outer = outer_scale ? data<float>(all.get("outer_scale", 1))[0] : 1.0f;
    const rh_data_type type = output.dtype;
    const auto weight = [=, this_outer = outer_scale](float scale, int zero_point, uint8_t code) {
      const float inner = scale * static_cast<float>(code - zero_point);
      return this_outer ? outer * rh_rounded(type, inner) : inner;
    };
    if (group_index) {
      const auto* index = data<const int32_t>(all.get("group_index", cols));
      for (int64_t c = 0; c < cols; ++c)
        require(index[c] >= 0 && index[c] < groups(cols), "group_index names a group that is not there");
      detail::write_groups(output, 1, cols, [&](int64_t row) {
        return [&, row](int64_t i) {
          const int64_t g = row / std::max<int64_t>(1, group_rows) * groups(cols) + index[i - row * cols];
          return weight(rh_load(&scales, g), zero_points ? zero_points[g] : zero, codes[i]);
        };
      });
      return;
    }
    detail::write_groups(output, std::max<int64_t>(1, group_rows), group_cols, [&](int64_t group) {
      const float scale = rh_load(&scales, group);
      const int zero_point = zero_points ? zero_points[group] : zero;
      return [&weight, codes, scale, zero_point](int64_t i) { return weight(scale, zero_point, codes[i]); };
    });
  }
};

}  // namespace rh
