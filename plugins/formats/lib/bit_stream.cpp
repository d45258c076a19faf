// SPDX-License-Identifier: Apache-2.0
#include "plugins/formats/lib/bit_stream.h"

#include <algorithm>
#include <cassert>
#include <roundhouse/plugin.hpp>

namespace roundhouse::formats {
namespace {

// Calls body(row, first column, first word) for each block of 32 values, neighbouring rows first.
template <typename Body>
void for_blocks(int64_t rows, int64_t cols, int bits, Body&& body) {
  assert(cols % 32 == 0);
  rh::parallel_for(rows, kRowsPerChunk, [&](int64_t begin, int64_t end) {
    for (int64_t block = 0; block < cols / 32; ++block) {
      for (int64_t row = begin; row < end; ++row) body(row, block * 32, block * bits);
    }
  });
}

}  // namespace

void pack_stream(const uint8_t* values, int64_t count, int bits, uint32_t* words, int64_t stride) {
  uint64_t pending = 0;
  int filled = 0;
  for (int64_t i = 0; i < count; ++i) {
    assert(values[i] >> bits == 0);
    pending |= static_cast<uint64_t>(values[i]) << filled;
    filled += bits;
    if (filled >= 32) {
      *words = static_cast<uint32_t>(pending);
      words += stride;
      pending >>= 32;
      filled -= 32;
    }
  }
  if (filled > 0) *words = static_cast<uint32_t>(pending);
}

void unpack_stream(const uint32_t* words, int64_t count, int bits, uint8_t* values, int64_t stride) {
  const uint64_t mask = (1u << bits) - 1;
  uint64_t pending = 0;
  int filled = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (filled < bits) {
      pending |= static_cast<uint64_t>(*words) << filled;
      words += stride;
      filled += 32;
    }
    values[i] = static_cast<uint8_t>(pending & mask);
    pending >>= bits;
    filled -= bits;
  }
}

void pack_rows_down(const uint8_t* values, int64_t rows, int64_t cols, int bits, uint32_t* words) {
  for_blocks(rows, cols, bits, [&](int64_t row, int64_t col, int64_t word) {
    pack_stream(values + row * cols + col, 32, bits, words + word * rows + row, rows);
  });
}

void unpack_rows_down(const uint32_t* words, int64_t rows, int64_t cols, int bits, uint8_t* values) {
  for_blocks(rows, cols, bits, [&](int64_t row, int64_t col, int64_t word) {
    unpack_stream(words + word * rows + row, 32, bits, values + row * cols + col, rows);
  });
}

}  // namespace roundhouse::formats
