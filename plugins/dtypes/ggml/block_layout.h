// The bytes of ggml's blocks (ggml-common.h in llama.cpp), on the CPU and on CUDA.
#pragma once

#include <cstdint>
#include <cstring>

#include "block_type.h"
#include "kernels/ggml.h"

namespace roundhouse::ggml {
namespace layout {

using kernels::float_from_half;
using kernels::GgmlBlock;
using kernels::half_from_float;

// Some bits of every code. Each `span` bytes hold those of 8 / width runs of `span` columns, the first run lowest.
struct Plane {
  int offset, span, width;  // width 0: no such plane
};

struct Layout {
  Plane low, high;
  int d, dmin, scales;  // offsets, -1: none
};

KERNEL_FN Layout layout_of(BlockType type) {
  constexpr Layout layouts[kBlockTypes] = {
      {{2, 16, 4}, {}, 0, -1, -1},               // q4_0
      {{4, 16, 4}, {}, 0, 2, -1},                // q4_1
      {{6, 16, 4}, {2, 1, 1}, 0, -1, -1},        // q5_0
      {{8, 16, 4}, {4, 1, 1}, 0, 2, -1},         // q5_1
      {{2, 1, 8}, {}, 0, -1, -1},                // q8_0
      {{16, 32, 2}, {}, 80, 82, 0},              // q2_k
      {{32, 32, 2}, {0, 32, 1}, 108, -1, 96},    // q3_k
      {{16, 32, 4}, {}, 0, 2, 4},                // q4_k
      {{48, 32, 4}, {16, 32, 1}, 0, 2, 4},       // q5_k
      {{0, 64, 4}, {128, 32, 2}, 208, -1, 192},  // q6_k
  };
  return layouts[static_cast<int>(type)];
}

// use(byte, shift, column) for each column of a block.
template <typename Use>
KERNEL_FN void for_plane(const Plane& plane, int cols, Use&& use) {
  if (plane.width == 0) return;
  const int runs = 8 / plane.width;
  for (int i = 0; i < cols; ++i)
    use(plane.offset + i / (plane.span * runs) * plane.span + i % plane.span, i / plane.span % runs * plane.width, i);
}

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

KERNEL_FN float load_half(const uint8_t* bytes) {
  uint16_t half;
  std::memcpy(&half, bytes, sizeof half);
  return float_from_half(half);
}

// Eight pairs of six bits in 12 bytes (q4_k, q5_k).
KERNEL_FN void pack_pairs(const GgmlBlock& block, uint8_t* bytes) {
  for (int i = 0; i < 4; ++i) {
    const int scale = static_cast<int>(block.scale_code[i]), minimum = static_cast<int>(block.minimum_code[i]);
    const int scale4 = static_cast<int>(block.scale_code[i + 4]),
              minimum4 = static_cast<int>(block.minimum_code[i + 4]);
    bytes[i] = static_cast<uint8_t>(scale | scale4 >> 4 << 6);
    bytes[i + 4] = static_cast<uint8_t>(minimum | minimum4 >> 4 << 6);
    bytes[i + 8] = static_cast<uint8_t>((scale4 & 15) | (minimum4 & 15) << 4);
  }
}

KERNEL_FN void unpack_pairs(const uint8_t* bytes, GgmlBlock& block) {
  for (int i = 0; i < 4; ++i) {
    block.scale_code[i] = static_cast<float>(bytes[i] & 63);
    block.minimum_code[i] = static_cast<float>(bytes[i + 4] & 63);
    block.scale_code[i + 4] = static_cast<float>((bytes[i + 8] & 15) | bytes[i] >> 6 << 4);
    block.minimum_code[i + 4] = static_cast<float>(bytes[i + 8] >> 4 | bytes[i + 4] >> 6 << 4);
  }
}

// use(byte, shift, i, mask, drop): sixteen times six bits in 12 bytes, as planes of four and two bits (q3_k).
template <typename Use>
KERNEL_FN void for_six_bits(Use&& use) {
  for_plane({0, 8, 4}, 16, [&](int byte, int shift, int i) { use(byte, shift, i, 15, 0); });
  for_plane({8, 4, 2}, 16, [&](int byte, int shift, int i) { use(byte, shift, i, 3, 4); });
}

KERNEL_FN void pack_scales(BlockType type, const GgmlBlock& block, uint8_t* bytes) {
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

KERNEL_FN void unpack_scales(BlockType type, const uint8_t* bytes, GgmlBlock& block) {
  int code[16] = {};
  switch (type) {
    case BlockType::kQ2_K:
      for (int i = 0; i < 16; ++i) {
        block.scale_code[i] = static_cast<float>(bytes[i] & 15);
        block.minimum_code[i] = static_cast<float>(bytes[i] >> 4);
      }
      break;
    case BlockType::kQ3_K:
      for_six_bits(
          [&](int byte, int shift, int i, int mask, int drop) { code[i] |= (bytes[byte] >> shift & mask) << drop; });
      for (int i = 0; i < 16; ++i) block.scale_code[i] = static_cast<float>(code[i] - 32);
      break;
    case BlockType::kQ6_K:
      for (int i = 0; i < 16; ++i) block.scale_code[i] = static_cast<float>(static_cast<int8_t>(bytes[i]));
      break;
    default:
      unpack_pairs(bytes, block);
  }
}

// Codes of eight bits are stored as signed bytes.
KERNEL_FN uint8_t stored_sign(BlockType type) { return type == BlockType::kQ8_0 ? 0x80 : 0; }

// The sign of dmin as it is stored.
KERNEL_FN float dmin_sign(BlockType type) { return facts(type).super_bits == 0 ? -1.0f : 1.0f; }

}  // namespace layout

// `codes` has block_cols codes from 0, `bytes` block_bytes. Of a block the d, dmin and integer scales are held; dmin is
// what is taken away (ggml's m of q4_1 and q5_1 is -dmin).
KERNEL_FN void pack_block(BlockType type, const kernels::GgmlBlock& block, const uint8_t* codes, uint8_t* bytes) {
  using namespace layout;
  const Layout parts = layout_of(type);
  const int cols = facts(type).block_cols;
  const uint8_t sign = stored_sign(type);
  std::memset(bytes, 0, facts(type).block_bytes);
  pack_plane(parts.low, cols, codes, 0, sign, bytes);
  pack_plane(parts.high, cols, codes, parts.low.width, 0, bytes);
  store_half(block.d, bytes + parts.d);
  if (parts.dmin >= 0) store_half(dmin_sign(type) * block.dmin, bytes + parts.dmin);
  if (parts.scales >= 0) pack_scales(type, block, bytes + parts.scales);
}

KERNEL_FN void unpack_block(BlockType type, const uint8_t* bytes, kernels::GgmlBlock& block, uint8_t* codes) {
  using namespace layout;
  const Layout parts = layout_of(type);
  const int cols = facts(type).block_cols;
  const uint8_t sign = stored_sign(type);
  const int low_mask = (1 << parts.low.width) - 1, high_mask = (1 << parts.high.width) - 1;
  for_plane(parts.low, cols, [&](int byte, int shift, int i) {
    codes[i] = static_cast<uint8_t>((bytes[byte] >> shift & low_mask) ^ sign);
  });
  for_plane(parts.high, cols,
            [&](int byte, int shift, int i) { codes[i] |= (bytes[byte] >> shift & high_mask) << parts.low.width; });
  block = {};
  block.d = load_half(bytes + parts.d);
  if (parts.dmin >= 0) block.dmin = dmin_sign(type) * load_half(bytes + parts.dmin);
  if (parts.scales >= 0)
    unpack_scales(type, bytes + parts.scales, block);
  else
    block.scale_code[0] = block.minimum_code[0] = 1.0f;
}

}  // namespace roundhouse::ggml
