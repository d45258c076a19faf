// SPDX-License-Identifier: Apache-2.0
// Packs ggml's blocks, on the CPU and on CUDA; the SDK has their layout and unpacks them.
#pragma once

#include <cstdint>
#include <cstring>

#include "block_type.h"
#include "kernels/ggml.h"

namespace roundhouse::ggml {
namespace layout {

using kernels::half_from_float;
using rh::ggml::for_six_bits;
using rh::ggml::Layout;
using rh::ggml::Plane;

// Stores the bits of `codes` from bit `drop` on, exclusive or `sign`, that belong to a plane, eight codes at a time.
KERNEL_FN void pack_plane(const Plane& plane, int cols, const uint8_t* codes, int drop, uint8_t sign, uint8_t* bytes) {
  if (plane.width == 0) return;
  constexpr uint64_t kOnes = 0x0101010101010101;
  const uint64_t mask = kOnes * ((1u << plane.width) - 1), flip = kOnes * sign;
  const auto eight = [&](int i) {
    uint64_t x;
    std::memcpy(&x, codes + i, sizeof x);
    return ((x ^ flip) >> drop) & mask;
  };
  uint8_t* to = bytes + plane.offset;
  if (plane.span == 1 && plane.width == 1) {  // a byte has the bits of eight columns, which the product gathers on top
    for (int i = 0; i < cols; i += 8) *to++ = static_cast<uint8_t>(eight(i) * 0x0102040810204080 >> 56);
    return;
  }
  const int span = plane.width == 8 ? cols : plane.span, runs = 8 / plane.width;
  for (int first = 0; first < cols; first += span * runs) {
    for (int i = first; i < first + span; i += 8, to += 8) {
      uint64_t packed = 0;
      for (int run = 0; run < runs; ++run) packed |= eight(i + run * span) << run * plane.width;
      std::memcpy(to, &packed, sizeof packed);
    }
  }
}

KERNEL_FN void store_half(float x, uint8_t* bytes) {
  const uint16_t half = half_from_float(x);
  std::memcpy(bytes, &half, sizeof half);
}

// What a block holds beside its codes; the integers are one a group.
struct Parameters {
  float d, dmin;
  const float *scale_code, *minimum_code;
};

// Eight pairs of six bits in 12 bytes (q4_k, q5_k).
KERNEL_FN void pack_pairs(const Parameters& block, uint8_t* bytes) {
  for (int i = 0; i < 4; ++i) {
    const int scale = static_cast<int>(block.scale_code[i]), minimum = static_cast<int>(block.minimum_code[i]);
    const int scale4 = static_cast<int>(block.scale_code[i + 4]),
              minimum4 = static_cast<int>(block.minimum_code[i + 4]);
    bytes[i] = static_cast<uint8_t>(scale | scale4 >> 4 << 6);
    bytes[i + 4] = static_cast<uint8_t>(minimum | minimum4 >> 4 << 6);
    bytes[i + 8] = static_cast<uint8_t>((scale4 & 15) | (minimum4 & 15) << 4);
  }
}

KERNEL_FN void pack_scales(BlockType type, const Parameters& block, uint8_t* bytes) {
  const auto code = [&](int i) { return static_cast<int>(block.scale_code[i]); };
  switch (type) {
    case BlockType::kQ2_K:
      for (int i = 0; i < 16; ++i)
        bytes[i] = static_cast<uint8_t>(code(i) | static_cast<int>(block.minimum_code[i]) << 4);
      break;
    case BlockType::kQ3_K:
      for_six_bits([&](int byte, int shift, int i, int mask, int drop) {
        bytes[byte] |= ((code(i) + 32) >> drop & mask) << shift;
      });
      break;
    case BlockType::kQ6_K:
      for (int i = 0; i < 16; ++i) bytes[i] = static_cast<uint8_t>(static_cast<int8_t>(code(i)));
      break;
    default:
      pack_pairs(block, bytes);
  }
}

}  // namespace layout

// `codes` has block_cols codes from 0, `bytes` block_bytes. Of a block the d, dmin and integer scales are held; dmin is
// what is taken away (ggml's m of q4_1 and q5_1 is -dmin).
KERNEL_FN void pack_block(BlockType type, const layout::Parameters& block, const uint8_t* codes, uint8_t* bytes) {
  using namespace layout;
  const Layout parts = rh::ggml::layout(static_cast<int>(type));
  const int cols = facts(type).block_cols;
  const uint8_t sign = rh::ggml::stored_sign(static_cast<int>(type));
  std::memset(bytes, 0, facts(type).block_bytes);
  pack_plane(parts.low, cols, codes, 0, sign, bytes);
  pack_plane(parts.high, cols, codes, parts.low.width, 0, bytes);
  store_half(block.d, bytes + parts.d);
  if (parts.dmin >= 0) store_half(rh::ggml::dmin_sign(static_cast<int>(type)) * block.dmin, bytes + parts.dmin);
  if (parts.scales >= 0) pack_scales(type, block, bytes + parts.scales);
}
KERNEL_FN void pack_block(BlockType type, const kernels::GgmlBlock& block, const uint8_t* codes, uint8_t* bytes) {
  pack_block(type, {block.d, block.dmin, block.scale_code, block.minimum_code}, codes, bytes);
}

}  // namespace roundhouse::ggml
