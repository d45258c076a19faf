#include "plugins/formats/gguf/ggml_type.h"

#include <cstring>

#include "kernels/floats.h"

namespace roundhouse::formats {
namespace {

constexpr GgmlType kTypes[] = {
    {"f32", 0, 1, 4},
    {"f16", 1, 1, 2},
    {"bf16", 30, 1, 2},
    {"q4_0", 2, 32, 18, 4, 1},
    {"q4_1", 3, 32, 20, 4, 1, false},
    {"q5_0", 6, 32, 22, 5, 1},
    {"q5_1", 7, 32, 24, 5, 1, false},
    {"q8_0", 8, 32, 34, 8, 1},
    {"q2_k", 10, 256, 84, 2, 16, false, 4},
    {"q3_k", 11, 256, 110, 3, 16, true, 6},
    {"q4_k", 12, 256, 144, 4, 8, false, 6},
    {"q5_k", 13, 256, 176, 5, 8, false, 6},
    {"q6_k", 14, 256, 210, 6, 16, true, 8},
};

float half_at(const uint8_t* p) {
  uint16_t bits;
  std::memcpy(&bits, p, sizeof bits);
  return kernels::float_from_half(bits);
}

// ---- blocks of 32: scale, minimum (q4_1, q5_1), fifth bits (q5_0, q5_1), and codes: low nibbles first ----

template <bool has_minimum, bool has_fifth_bit>
void dequantize_nibbles(const uint8_t* block, float* out) {
  const float d = half_at(block);
  const float minimum = has_minimum ? half_at(block + 2) : 0;
  const uint8_t* p = block + (has_minimum ? 4 : 2);
  uint32_t fifth = 0;
  if (has_fifth_bit) {
    std::memcpy(&fifth, p, sizeof fifth);
    p += sizeof fifth;
  }
  for (int i = 0; i < 32; ++i) {
    int code = i < 16 ? p[i] & 15 : p[i - 16] >> 4;
    if (has_fifth_bit) code |= static_cast<int>(fifth >> i & 1) << 4;
    if (has_minimum)
      out[i] = d * static_cast<float>(code) + minimum;
    else
      out[i] = d * static_cast<float>(code - (has_fifth_bit ? 16 : 8));
  }
}

void dequantize_q8_0(const uint8_t* block, float* out) {
  const float d = half_at(block);
  for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(static_cast<int8_t>(block[2 + i]));
}

// ---- blocks of 256 ----

// Two bits of element i: each half of 128 has 32 bytes, with elements 32 apart at shifts 0, 2, 4, 6.
int two_bits(const uint8_t* p, int i) { return p[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3; }

void dequantize_q2_k(const uint8_t* block, float* out) {
  const uint8_t *scales = block, *codes = block + 16;
  const float d = half_at(block + 80), minimum = half_at(block + 82);
  for (int i = 0; i < 256; ++i) {
    const uint8_t scale = scales[i / 16];
    const float step = d * static_cast<float>(scale & 15), offset = minimum * static_cast<float>(scale >> 4);
    out[i] = step * static_cast<float>(two_bits(codes, i)) - offset;
  }
}

void dequantize_q3_k(const uint8_t* block, float* out) {
  const uint8_t *high = block, *codes = block + 32, *scales = block + 96;
  const float d = half_at(block + 108);
  for (int i = 0; i < 256; ++i) {
    const int group = i / 16;
    const int low_bits = scales[group % 8] >> (group / 8 * 4) & 15;
    const int high_bits = scales[8 + group % 4] >> (group / 4 * 2) & 3;
    const float step = d * static_cast<float>((low_bits | high_bits << 4) - 32);
    const int code = two_bits(codes, i) - (high[i % 32] >> (i / 32) & 1 ? 0 : 4);
    out[i] = step * static_cast<float>(code);
  }
}

// The six-bit scale and minimum of a group of 32, of eight.
struct ScaleMinimum {
  int scale, minimum;
};
ScaleMinimum scale_minimum(const uint8_t* p, int group) {
  if (group < 4) return {p[group] & 63, p[group + 4] & 63};
  const int j = group - 4;
  return {(p[group + 4] & 15) | (p[j] >> 6) << 4, (p[group + 4] >> 4) | (p[group] >> 6) << 4};
}

template <bool has_fifth_bit>
void dequantize_q45_k(const uint8_t* block, float* out) {
  const float d = half_at(block), minimum = half_at(block + 2);
  const uint8_t *scales = block + 4, *fifth = block + 16, *codes = block + (has_fifth_bit ? 48 : 16);
  for (int group = 0; group < 8; ++group) {
    const ScaleMinimum s = scale_minimum(scales, group);
    const float step = d * static_cast<float>(s.scale), offset = minimum * static_cast<float>(s.minimum);
    for (int i = 0; i < 32; ++i) {
      int code = codes[group / 2 * 32 + i] >> (group % 2 * 4) & 15;
      if (has_fifth_bit) code |= (fifth[i] >> group & 1) << 4;
      out[group * 32 + i] = step * static_cast<float>(code) - offset;
    }
  }
}

void dequantize_q6_k(const uint8_t* block, float* out) {
  const uint8_t *low = block, *high = block + 128, *scales = block + 192;
  const float d = half_at(block + 208);
  for (int i = 0; i < 256; ++i) {
    const int low_bits = low[i / 128 * 64 + i % 64] >> (i % 128 / 64 * 4) & 15;
    const int code = (low_bits | two_bits(high, i) << 4) - 32;
    const float step = d * static_cast<float>(static_cast<int8_t>(scales[i / 16]));
    out[i] = step * static_cast<float>(code);
  }
}

float element(const GgmlType& type, const uint8_t* p) {
  if (type.bytes == 4) {
    float x;
    std::memcpy(&x, p, sizeof x);
    return x;
  }
  uint16_t bits;
  std::memcpy(&bits, p, sizeof bits);
  return type.id == 1 ? kernels::float_from_half(bits) : kernels::float_from_bfloat(bits);
}

void dequantize_block(const GgmlType& type, const uint8_t* block, float* out) {
  switch (type.id) {
    case 2:
      return dequantize_nibbles<false, false>(block, out);
    case 3:
      return dequantize_nibbles<true, false>(block, out);
    case 6:
      return dequantize_nibbles<false, true>(block, out);
    case 7:
      return dequantize_nibbles<true, true>(block, out);
    case 8:
      return dequantize_q8_0(block, out);
    case 10:
      return dequantize_q2_k(block, out);
    case 11:
      return dequantize_q3_k(block, out);
    case 12:
      return dequantize_q45_k<false>(block, out);
    case 13:
      return dequantize_q45_k<true>(block, out);
    case 14:
      return dequantize_q6_k(block, out);
    default:
      *out = element(type, block);
  }
}

}  // namespace

const GgmlType* ggml_type(uint32_t id) {
  for (const GgmlType& type : kTypes)
    if (type.id == id) return &type;
  return nullptr;
}

const GgmlType* ggml_type(std::string_view name) {
  for (const GgmlType& type : kTypes)
    if (type.name == name) return &type;
  return nullptr;
}

void dequantize(const GgmlType& type, const uint8_t* blocks, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) dequantize_block(type, blocks + i * type.bytes, out + i * type.cols);
}

}  // namespace roundhouse::formats
