// example.com/nf4/1: what the data type and the format agree on.
//
//   W[r][c] = kNf4[code[r][c]] * scale[r][c / group_cols], in float32, rounded once to the output type
//   parameters  {"group_cols": columns of a group}
//   tensors     "codes" u8 [rows, cols], 0 .. 15
//               "scale" f16 [rows, ceil(cols / group_cols)]
#pragma once

#define ENCODING_NF4 "example.com/nf4/1"

// The quantiles of the normal distribution that NF4 has for values (Dettmers et al., QLoRA, 2023, appendix E).
constexpr float kNf4[16] = {-1.0f,          -0.6961928010f, -0.5250730515f, -0.3949174881f,
                            -0.2844413817f, -0.1847734302f, -0.0910500363f, 0.0f,
                            0.0795802996f,  0.1609302014f,  0.2461123019f,  0.3379152417f,
                            0.4407098293f,  0.5626170039f,  0.7229568362f,  1.0f};
