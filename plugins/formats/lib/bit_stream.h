// SPDX-License-Identifier: Apache-2.0
// Dense little-endian bit streams: value i of width `bits` occupies bits [i * bits, (i + 1) * bits) of a stream of
// 32-bit words. Widths are 1 to 8; a value may straddle two words. 32 values always fill whole words.
#pragma once

#include <cstdint>

namespace roundhouse::formats {

// Rows that a thread takes together: their words of one stream position share a 64-byte cache line.
inline constexpr int64_t kRowsPerChunk = 16;

constexpr int64_t stream_words(int64_t count, int bits) { return (count * bits + 31) / 32; }

// Writes stream_words(count, bits) words, `stride` apart; unused high bits of the last one are zero.
// REQUIRES: every value < 2^bits.
void pack_stream(const uint8_t* values, int64_t count, int bits, uint32_t* words, int64_t stride = 1);
void unpack_stream(const uint32_t* words, int64_t count, int bits, uint8_t* values, int64_t stride = 1);

// values: [rows, cols]; words: [cols * bits / 32, rows], so that each row's stream runs down a column.
// On the host's threads. REQUIRES: cols % 32 == 0.
void pack_rows_down(const uint8_t* values, int64_t rows, int64_t cols, int bits, uint32_t* words);
void unpack_rows_down(const uint32_t* words, int64_t rows, int64_t cols, int bits, uint8_t* values);

}  // namespace roundhouse::formats
