// SPDX-License-Identifier: Apache-2.0
// Roundhouse SDK: the encoding nvfp/1 (../encoding.h), typed.
// A helper, no part of the ABI. C++17, no dependency.
#pragma once

#include "element.hpp"
#include "encoding.hpp"

namespace rh {

struct Nvfp : rh_nvfp {
  static constexpr const char* kId = RH_ENCODING_NVFP;

  explicit Nvfp(int scale, int64_t group_cols = 16, int dynamic = RH_INPUT_NONE)
      : rh_nvfp{scale, dynamic, group_cols} {}

  // What a quantized layer, or its input, is made of. Throws Error for another encoding, or wrong parameters.
  static Nvfp of(const rh_encoding& encoding) {
    require_id(encoding, kId);
    Nvfp out(0);
    if (!rh_nvfp_parse(encoding.parameters_json, &out)) bad_parameters(encoding);
    return out;
  }
  std::string json() const {
    return detail::printed([this](char* text, size_t size) { rh_nvfp_print(this, text, size); });
  }

  bool is_input() const { return dynamic != RH_INPUT_NONE; }
  int code_bits() const { return 4; }
  bool two_level() const { return scale == RH_NVFP_E4M3; }  // with a global scale
  int64_t groups(int64_t cols) const { return detail::groups_of(cols, group_cols); }

  Specs specs(int64_t rows, int64_t cols) const {
    Specs out;
    if (!is_input()) {
      out.add("codes", kU8, {rows, cols});
      out.add("scale", kU8, {rows, groups(cols)});
    }
    if (two_level() && dynamic != RH_INPUT_DYNAMIC) out.add("global_scale", kF32, {1});
    return out;
  }

  // As AffineInt::decode().
  void decode(const rh_encoding& encoding, const rh_tensor* const* tensors, rh_tensor& output) const {
    const int64_t rows = output.shape[0], cols = output.shape[1];
    const detail::Tensors all(encoding, tensors);
    const auto* codes = data<const uint8_t>(all.get("codes", rows * cols));
    const auto* scales = data<const uint8_t>(all.get("scale", rows * groups(cols)));
    const float inverse = two_level() ? detail::reciprocal(data<float>(all.get("global_scale", 1))[0]) : 0;
    const std::vector<float> table = element_values(kFp4E2M1);
    std::vector<float> steps = element_values(two_level() ? kFp8E4M3 : kUe5M3);  // d of every scale
    if (two_level())
      for (float& d : steps) d = detail::reciprocal(detail::reciprocal(d * inverse));  // as the weight was quantized
    detail::write_groups(output, 1, group_cols, [&](int64_t group) {
      return [codes, value = table.data(), d = steps[scales[group]]](int64_t i) { return value[codes[i] & 15] * d; };
    });
  }
};

}  // namespace rh
