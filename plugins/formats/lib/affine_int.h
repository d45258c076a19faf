// SPDX-License-Identifier: Apache-2.0
// Layers in the encoding affine-int/1 (roundhouse/encoding.h) with one scale a row and group.
#pragma once

#include <cstdint>
#include <roundhouse/encoding/affine_int.hpp>
#include <roundhouse/format.hpp>
#include <string>
#include <vector>

namespace roundhouse::formats {

// The value of every zero point of a symmetric layer.
constexpr uint8_t symmetric_zero_point(int bits) { return static_cast<uint8_t>(1 << (bits - 1)); }

// W[r][c] = scale[r][g] * (codes[r][c] - zero_point[r][g]), g = c / group_cols.
struct AffineLayer {
  int bits;
  bool symmetric;
  int64_t rows;
  int64_t cols;
  int64_t group_cols;               // at most cols; the last group of a row may be shorter
  std::vector<uint8_t> codes;       // [rows, cols]
  std::vector<uint16_t> scale;      // f16 [rows, groups]
  std::vector<uint8_t> zero_point;  // [rows, groups]; filled in when symmetric

  int64_t groups() const { return (cols + group_cols - 1) / group_cols; }
};

// Takes what a data type emitted, with its scales rounded to f16. Throws rh::Error when a scale does not fit into f16
// or a code into `bits`.
AffineLayer affine_layer(const rh_encoded_layer& encoded);

// Leaves no zero point 0, without changing a weight: a group with zero point 0 is mirrored, that is
// scale * q = -scale * ((max - q) - max).
void mirror_zero_points(AffineLayer& layer);

}  // namespace roundhouse::formats
