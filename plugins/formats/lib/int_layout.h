// SPDX-License-Identifier: Apache-2.0
// How GPTQ-style checkpoints store an affine-int/1 layer L of [rows, cols] weights. docs/formats.md has the bytes.
//
//   L.qweight  i32  codes as bit streams
//   L.qzeros   i32 [groups, rows * bits / 32]  zero points of a group, a bit stream along the rows
//   L.scales   f16 [groups, rows]; others' may be bf16
//   L.g_idx    i32 [cols]  the group of each column; optional. Ours says column / group width, desc_act's anything
//   L.bias         [rows]; optional
#pragma once

#include <string>
#include <vector>

#include "plugins/formats/lib/affine_int.h"

namespace roundhouse::formats {

enum class IntLayout {
  kDirect,    // qweight [cols * bits / 32, rows], each row's stream down a column; zero points as they are
  kMinusOne,  // the same, with zero point - 1 stored (GPTQ's first version)
  kAwq,       // qweight [cols, rows * bits / 32], streams along the rows in AWQ's order; zero points as they are
};

struct PackedInt {
  std::vector<uint32_t> qweight;
  std::vector<uint32_t> qzeros;
  std::vector<uint16_t> scales;
};

std::vector<int64_t> qweight_shape(int64_t rows, int64_t cols, int bits, IntLayout layout);

// REQUIRES: rows and cols are multiples of 32; with kMinusOne, no zero point is 0.
PackedInt pack(const AffineLayer& layer, IntLayout layout);

// A layer's tensors in an opened checkpoint.
struct StoredInt {
  std::string name;  // with the folder, for messages
  const rh_tensor* qweight = nullptr;
  const rh_tensor* qzeros = nullptr;
  const rh_tensor* scales = nullptr;
  const rh_tensor* g_idx = nullptr;  // after resolve() only where it does not say column / group_cols

  // Follow from the shapes, by resolve().
  int bits = 0;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t group_cols = 0;
  bool symmetric = false;  // every zero point is 2^(bits-1)

  int64_t groups() const { return (cols + group_cols - 1) / group_cols; }
  // Fills in what follows from the tensors. `group_size` is what config.json says of the layer. Throws rh::Error,
  // naming the tensor, when one is missing or they do not fit together.
  void resolve(IntLayout layout, int64_t group_size);
};

// zero_point: [rows, groups].
void unpack_zero_points(const StoredInt& layer, IntLayout layout, uint8_t* zero_point);
// Its scales are the stored bits, of f16 or bf16; g_idx is not in it.
AffineLayer unpack(const StoredInt& layer, IntLayout layout);

}  // namespace roundhouse::formats
