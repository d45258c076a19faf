// SPDX-License-Identifier: Apache-2.0
// Roundhouse SDK: the encoding mx/1 (../encoding.h), typed.
// A helper, no part of the ABI. C++17, no dependency.
#pragma once

#include "element.hpp"
#include "encoding.hpp"

namespace rh {

struct Mx : rh_mx {
  static constexpr const char* kId = RH_ENCODING_MX;

  explicit Mx(int element, int64_t group_cols = 32, int dynamic = RH_INPUT_NONE, int exponent = RH_MX_FLOOR)
      : rh_mx{element, dynamic, group_cols, exponent, 0} {}

  // What a quantized layer, or its input, is made of. Throws Error for another encoding, or wrong parameters.
  static Mx of(const rh_encoding& encoding) {
    require_id(encoding, kId);
    Mx out(0);
    if (!rh_mx_parse(encoding.parameters_json, &out)) bad_parameters(encoding);
    return out;
  }
  std::string json() const {
    return detail::printed([this](char* text, size_t size) { rh_mx_print(this, text, size); });
  }

  bool is_input() const { return dynamic != RH_INPUT_NONE; }
  const char* name() const { return rh_mx_names[element]; }
  Element values() const {
    constexpr Element all[RH_MX_ELEMENTS] = {kFp4E2M1, kFp6E2M3, kFp6E3M2, kFp8E4M3, kFp8E5M2, kInt8, kInt4, kInt2};
    return all[element];
  }
  int code_bits() const { return values().bits; }
  int64_t groups(int64_t cols) const { return detail::groups_of(cols, group_cols); }

  Specs specs(int64_t rows, int64_t cols) const {
    Specs out;
    if (is_input()) return out;
    out.add("codes", kU8, {rows, cols});
    out.add("scale", kU8, {rows, groups(cols)});
    return out;
  }

  // As AffineInt::decode().
  void decode(const rh_encoding& encoding, const rh_tensor* const* tensors, rh_tensor& output) const {
    const int64_t rows = output.shape[0], cols = output.shape[1];
    const detail::Tensors all(encoding, tensors);
    const auto* codes = data<const uint8_t>(all.get("codes", rows * cols));
    const auto* scales = data<const uint8_t>(all.get("scale", rows * groups(cols)));
    const std::vector<float> table = element_values(values()), powers = element_values(kE8M0);
    detail::write_groups(output, 1, group_cols, [&](int64_t group) {
      return
          [codes, value = table.data(), scale = powers[scales[group]]](int64_t i) { return value[codes[i]] * scale; };
    });
  }
};

}  // namespace rh
