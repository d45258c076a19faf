// SPDX-License-Identifier: Apache-2.0
// Roundhouse SDK: the encoding scaled-fp8/1 (../encoding.h), typed.
// A helper, no part of the ABI. C++17, no dependency.
#pragma once

#include "element.hpp"
#include "encoding.hpp"

namespace rh {

struct ScaledFp8 : rh_scaled_fp8 {
  static constexpr const char* kId = RH_ENCODING_SCALED_FP8;

  rh_data_type scale = kF32;  // element type of the scales
  bool unit_scale = false;    // there are no scales: all are 1

  ScaledFp8(int element, int64_t group_rows, int64_t group_cols, int dynamic = RH_INPUT_NONE)
      : rh_scaled_fp8{element, dynamic, group_rows, group_cols} {}

  // What a quantized layer, or its input, is made of. Throws Error for another encoding, or wrong parameters.
  static ScaledFp8 of(const rh_encoding& encoding) {
    require_id(encoding, kId);
    ScaledFp8 out(0, 0, 0);
    if (!rh_scaled_fp8_parse(encoding.parameters_json, &out)) bad_parameters(encoding);
    const int i = tensor_index(encoding, "scale");
    if (i >= 0) out.scale = encoding.tensors[i]->dtype;
    out.unit_scale = i < 0 && out.dynamic != RH_INPUT_DYNAMIC;
    return out;
  }
  std::string json() const {
    return detail::printed([this](char* text, size_t size) { rh_scaled_fp8_print(this, text, size); });
  }

  bool is_input() const { return dynamic != RH_INPUT_NONE; }
  int code_bits() const { return 8; }
  Element values() const { return element == RH_FP8_E4M3 ? kFp8E4M3 : kFp8E5M2; }
  int64_t row_groups(int64_t rows) const { return detail::groups_of(rows, group_rows); }
  int64_t col_groups(int64_t cols) const { return detail::groups_of(cols, group_cols); }

  Specs specs(int64_t rows, int64_t cols) const {
    Specs out;
    if (is_input()) {
      if (dynamic == RH_INPUT_CALIBRATED && !unit_scale) out.add("scale", kF32, {1});
      return out;
    }
    out.add("codes", kU8, {rows, cols});
    if (!unit_scale) out.add("scale", scale, {row_groups(rows), col_groups(cols)});
    return out;
  }

  // As AffineInt::decode().
  void decode(const rh_encoding& encoding, const rh_tensor* const* tensors, rh_tensor& output) const {
    const int64_t rows = output.shape[0], cols = output.shape[1];
    const detail::Tensors all(encoding, tensors);
    const auto* codes = data<const uint8_t>(all.get("codes", rows * cols));
    const rh_tensor* scales = unit_scale ? nullptr : &all.get("scale", row_groups(rows) * col_groups(cols));
    const std::vector<float> table = element_values(values());
    detail::write_groups(output, group_rows, group_cols, [&](int64_t group) {
      return [codes, value = table.data(), scale = scales ? rh_load(scales, group) : 1.0f](int64_t i) {
        return value[codes[i]] * scale;
      };
    });
  }
};

}  // namespace rh
