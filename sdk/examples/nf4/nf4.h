// SPDX-License-Identifier: Apache-2.0
// example.com/nf4/1: what the data type and the format agree on, typed as the shared encodings are.
//
//   W[r][c] = kNf4[code[r][c]] * scale[r][c / group_cols], in float32, rounded once to the output type
//   parameters  {"group_cols": columns of a group}
//   tensors     "codes" u8 [rows, cols], 0 .. 15
//               "scale" f16 [rows, ceil(cols / group_cols)]
#pragma once

#include <roundhouse/encoding/encoding.hpp>

// The quantiles of the normal distribution that NF4 has for values (Dettmers et al., QLoRA, 2023, appendix E).
constexpr float kNf4[16] = {-1.0f,          -0.6961928010f, -0.5250730515f, -0.3949174881f,
                            -0.2844413817f, -0.1847734302f, -0.0910500363f, 0.0f,
                            0.0795802996f,  0.1609302014f,  0.2461123019f,  0.3379152417f,
                            0.4407098293f,  0.5626170039f,  0.7229568362f,  1.0f};

struct Nf4Encoding {
  static constexpr const char* kId = "example.com/nf4/1";
  int64_t group_cols;

  static Nf4Encoding of(const rh_encoding& encoding) {
    rh::require_id(encoding, kId);
    Nf4Encoding out{};
    if (!rh_json_integer(encoding.parameters_json, "group_cols", &out.group_cols) || out.group_cols < 1)
      rh::bad_parameters(encoding);
    return out;
  }
  std::string json() const { return "{\"group_cols\": " + std::to_string(group_cols) + "}"; }

  int64_t groups(int64_t cols) const { return (cols + group_cols - 1) / group_cols; }
  rh::Specs specs(int64_t rows, int64_t cols) const {
    rh::Specs out;
    out.add("codes", rh::kU8, {rows, cols});
    out.add("scale", rh::kF16, {rows, groups(cols)});
    return out;
  }

  // Writes the weight that `tensors` stand for; `encoding` names them. output: [rows, cols] of f32, f16 or bf16.
  void decode(const rh_encoding& encoding, const rh_tensor* const* tensors, rh_tensor& output) const {
    const uint8_t* const codes = rh::data<uint8_t>(*tensors[rh::tensor_index(encoding, "codes")]);
    const rh_tensor* const scale = tensors[rh::tensor_index(encoding, "scale")];
    const int64_t rows = output.shape[0], cols = output.shape[1];
    rh::parallel_for(rows, 16, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        for (int64_t c = 0; c < cols; ++c)
          rh_store(&output, r * cols + c,
                   kNf4[codes[r * cols + c] & 15] * rh_load(scale, r * groups(cols) + c / group_cols));
    });
  }
};
