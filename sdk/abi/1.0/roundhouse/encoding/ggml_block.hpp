// SPDX-License-Identifier: Apache-2.0
// Roundhouse SDK: the encoding ggml-block/1 (../encoding.h), typed: ggml's block types, and where a block has its bits
// (ggml-common.h in llama.cpp).
// A helper, no part of the ABI. C++17, no dependency; tables and unpacking also for CUDA.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "encoding.hpp"

#if defined(__CUDACC__)
#define RH_GGML_FN __host__ __device__ inline
#else
#define RH_GGML_FN inline
#endif

namespace rh {

struct GgmlType {
  const char* name;  // "q4_k"
  int ggml_id;       // enum ggml_type
  int bits;          // of a code
  int block_cols;    // columns of a block: a super-block of groups for the K types, else one group
  int block_bytes;
  int group_cols;  // columns that share a scale (and, asymmetric, a minimum)
  bool symmetric;  // no minimum
  int super_bits;  // bits of a group's scale and minimum in units of the block's d and dmin; 0: f16 itself

  RH_GGML_FN constexpr int groups() const { return block_cols / group_cols; }  // of a block
};

// type: RH_GGML_*.
RH_GGML_FN constexpr GgmlType ggml_type(int type) {
  constexpr GgmlType all[RH_GGML_TYPES] = {
      {"q4_0", 2, 4, 32, 18, 32, true, 0},     {"q4_1", 3, 4, 32, 20, 32, false, 0},
      {"q5_0", 6, 5, 32, 22, 32, true, 0},     {"q5_1", 7, 5, 32, 24, 32, false, 0},
      {"q8_0", 8, 8, 32, 34, 32, true, 0},     {"q2_k", 10, 2, 256, 84, 16, false, 4},
      {"q3_k", 11, 3, 256, 110, 16, true, 6},  {"q4_k", 12, 4, 256, 144, 32, false, 6},
      {"q5_k", 13, 5, 256, 176, 32, false, 6}, {"q6_k", 14, 6, 256, 210, 16, true, 8},
  };
  return all[type];
}

namespace ggml {

inline constexpr int kMostCols = 256;   // of a block
inline constexpr int kMostGroups = 16;  // of a block

// Some bits of every code. Each `span` bytes hold those of 8 / width runs of `span` columns, the first run lowest.
struct Plane {
  int offset, span, width;  // width 0: no such plane
};
struct Layout {
  Plane low, high;
  int d, dmin, scales;  // offsets, -1: none
};

RH_GGML_FN constexpr Layout layout(int type) {
  constexpr Layout all[RH_GGML_TYPES] = {
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
  return all[type];
}

// use(byte, shift, i, mask, drop): sixteen times six bits in 12 bytes, of which eight have the low four bits of a pair and
// four the high two of four (q3_k).
template <typename Use>
RH_GGML_FN void for_six_bits(Use&& use) {
  for (int i = 0; i < 16; ++i) {
    use(i % 8, i / 8 * 4, i, 15, 0);
    use(8 + i % 4, i / 4 * 2, i, 3, 4);
  }
}

// Codes of eight bits are stored as signed bytes.
RH_GGML_FN constexpr uint8_t stored_sign(int type) { return type == RH_GGML_Q8_0 ? 0x80 : 0; }
// The sign of dmin as it is stored: q4_1 and q5_1 store what is added, the K types what is taken away.
RH_GGML_FN constexpr float dmin_sign(int type) { return ggml_type(type).super_bits == 0 ? -1.0f : 1.0f; }

// An unpacked block: element i of group g is d * scale_code[g] * (code[i] - zero) - dmin * minimum_code[g], where zero
// is 2^(bits-1) for symmetric types, else 0.
struct Block {
  float d, dmin;
  float scale_code[kMostGroups], minimum_code[kMostGroups];  // integers; 1 where a block is one group
};

RH_GGML_FN float load_half(const uint8_t* bytes) {
  uint16_t half;
  memcpy(&half, bytes, sizeof half);
  return rh_float_from_half(half);
}

RH_GGML_FN void unpack_scales(int type, const uint8_t* bytes, Block& block) {
  if (type == RH_GGML_Q2_K) {
    for (int i = 0; i < 16; ++i) {
      block.scale_code[i] = static_cast<float>(bytes[i] & 15);
      block.minimum_code[i] = static_cast<float>(bytes[i] >> 4);
    }
  } else if (type == RH_GGML_Q3_K) {
    int code[16] = {};
    for_six_bits(
        [&](int byte, int shift, int i, int mask, int drop) { code[i] |= (bytes[byte] >> shift & mask) << drop; });
    for (int i = 0; i < 16; ++i) block.scale_code[i] = static_cast<float>(code[i] - 32);
  } else if (type == RH_GGML_Q6_K) {
    for (int i = 0; i < 16; ++i) block.scale_code[i] = static_cast<float>(static_cast<int8_t>(bytes[i]));
  } else {  // q4_k, q5_k: eight pairs of six bits in 12 bytes
    for (int i = 0; i < 4; ++i) {
      block.scale_code[i] = static_cast<float>(bytes[i] & 63);
      block.minimum_code[i] = static_cast<float>(bytes[i + 4] & 63);
      block.scale_code[i + 4] = static_cast<float>((bytes[i + 8] & 15) | bytes[i] >> 6 << 4);
      block.minimum_code[i + 4] = static_cast<float>(bytes[i + 8] >> 4 | bytes[i + 4] >> 6 << 4);
    }
  }
}

// Adds the bits of a plane, exclusive or `sign`, to `codes` as those from bit `drop` on, eight codes at a time.
RH_GGML_FN void unpack_plane(const Plane& plane, int cols, const uint8_t* bytes, int drop, uint8_t sign,
                             uint8_t* codes) {
  if (plane.width == 0) return;
  constexpr uint64_t kOnes = 0x0101010101010101;
  const uint64_t mask = kOnes * ((1u << plane.width) - 1), flip = kOnes * sign;
  const auto add = [&](int i, uint64_t bits) {
    uint64_t x;
    memcpy(&x, codes + i, sizeof x);
    x |= ((bits & mask) ^ flip) << drop;
    memcpy(codes + i, &x, sizeof x);
  };
  const uint8_t* from = bytes + plane.offset;
  if (plane.span == 1 && plane.width == 1) {  // a byte has the bits of eight columns
    for (int i = 0; i < cols; i += 8) {
      const uint64_t apart = kOnes * *from++ & 0x8040201008040201;
      add(i, (apart + 0x7f * kOnes) >> 7);
    }
    return;
  }
  const int span = plane.width == 8 ? cols : plane.span, runs = 8 / plane.width;
  for (int first = 0; first < cols; first += span * runs) {
    for (int i = first; i < first + span; i += 8, from += 8) {
      uint64_t packed;
      memcpy(&packed, from, sizeof packed);
      for (int run = 0; run < runs; ++run) add(i + run * span, packed >> run * plane.width);
    }
  }
}

// codes: [block_cols], from 0.
template <int kType>
RH_GGML_FN void unpack(const uint8_t* bytes, Block& block, uint8_t* codes) {
  constexpr Layout parts = layout(kType);
  constexpr int cols = ggml_type(kType).block_cols;
  memset(codes, 0, cols);
  unpack_plane(parts.low, cols, bytes, 0, stored_sign(kType), codes);
  unpack_plane(parts.high, cols, bytes, parts.low.width, 0, codes);
  block.d = load_half(bytes + parts.d);
  block.dmin = parts.dmin >= 0 ? dmin_sign(kType) * load_half(bytes + parts.dmin) : 0.0f;
  if (parts.scales >= 0)
    unpack_scales(kType, bytes + parts.scales, block);
  else
    block.scale_code[0] = block.minimum_code[0] = 1.0f;
}

// Writes the block_cols numbers of a block, in the arithmetic of ggml's own dequantization.
template <int kType>
void dequantize(const uint8_t* bytes, float* out) {
  constexpr GgmlType facts = ggml_type(kType);
  constexpr int zero = facts.symmetric ? 1 << (facts.bits - 1) : 0;
  Block block;
  uint8_t codes[facts.block_cols];
  unpack<kType>(bytes, block, codes);
  for (int g = 0; g < facts.groups(); ++g) {
    const float step = block.d * block.scale_code[g];
    const float minimum = facts.symmetric ? 0.0f : block.dmin * block.minimum_code[g];
    for (int i = g * facts.group_cols; i < (g + 1) * facts.group_cols; ++i)
      out[i] = step * static_cast<float>(codes[i] - zero) - minimum;
  }
}

// use(std::integral_constant<int, type>()): code that is compiled for each type. Throws Error for no type of ggml's.
template <int kType = 0, typename Use>
void with_type(int type, Use&& use) {
  if constexpr (kType < RH_GGML_TYPES) {
    if (type == kType)
      use(std::integral_constant<int, kType>());
    else
      with_type<kType + 1>(type, use);
  } else {
    throw Error(RH_INVALID_ARGUMENT, "there is no block type " + std::to_string(type));
  }
}

}  // namespace ggml

struct GgmlBlock : rh_ggml_block {
  static constexpr const char* kId = RH_ENCODING_GGML_BLOCK;

  explicit GgmlBlock(int type) : rh_ggml_block{type} {}

  // Throws Error for another encoding, or wrong parameters.
  static GgmlBlock of(const rh_encoding& encoding) {
    require_id(encoding, kId);
    GgmlBlock out(0);
    if (!rh_ggml_block_parse(encoding.parameters_json, &out)) bad_parameters(encoding);
    return out;
  }
  std::string json() const {
    return detail::printed([this](char* text, size_t size) { rh_ggml_block_print(this, text, size); });
  }

  GgmlType facts() const { return ggml_type(type); }
  int code_bits() const { return facts().bits; }
  // REQUIRES: cols is a multiple of the block's columns.
  int64_t row_bytes(int64_t cols) const { return cols / facts().block_cols * facts().block_bytes; }

  Specs specs(int64_t rows, int64_t cols) const {
    Specs out;
    out.add("blocks", kU8, {rows, row_bytes(cols)});
    return out;
  }

  // As AffineInt::decode().
  void decode(const rh_encoding& encoding, const rh_tensor* const* tensors, rh_tensor& output) const {
    const int64_t rows = output.shape[0], cols = output.shape[1];
    require(cols % facts().block_cols == 0, std::string("a row is no whole number of blocks of ") + facts().name);
    const auto* blocks = data<const uint8_t>(detail::Tensors(encoding, tensors).get("blocks", rows * row_bytes(cols)));
    detail::write_weights(output, [&](auto* weights, auto convert) {
      ggml::with_type(type, [&](auto known) {
        constexpr GgmlType block = ggml_type(known());
        parallel_for(rows, 16, [&](int64_t begin, int64_t end) {
          float values[block.block_cols];
          const uint8_t* from = blocks + begin * row_bytes(cols);
          for (auto* to = weights + begin * cols; to != weights + end * cols; to += block.block_cols) {
            ggml::dequantize<known()>(from, values);
            for (int i = 0; i < block.block_cols; ++i) to[i] = convert(values[i]);
            from += block.block_bytes;
          }
        });
      });
    });
  }
};

}  // namespace rh
