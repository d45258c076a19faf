// SPDX-License-Identifier: Apache-2.0
// Bit streams against a reference that moves one bit at a time.
#include "plugins/formats/lib/bit_stream.h"

#include <gtest/gtest.h>

#include <random>
#include <roundhouse/plugin.hpp>
#include <vector>

#include "host/abi/services.h"

namespace roundhouse::formats {
namespace {

std::vector<uint8_t> random_values(int64_t count, int bits) {
  std::mt19937 random(static_cast<unsigned>(count * 8 + bits));
  std::vector<uint8_t> values(count);
  for (auto& value : values) value = static_cast<uint8_t>(random() >> (32 - bits));
  return values;
}

void set_bits(std::vector<uint32_t>& words, int64_t first_bit, int bits, uint8_t value) {
  for (int b = 0; b < bits; ++b) {
    const int64_t bit = first_bit + b;
    words[bit / 32] |= static_cast<uint32_t>(value >> b & 1) << bit % 32;
  }
}

class BitStream : public testing::TestWithParam<int> {};

TEST_P(BitStream, PacksAnyCountLikeTheReference) {
  const int bits = GetParam();
  for (const int64_t count : {1, 2, 5, 10, 11, 31, 32, 33, 63, 64, 100}) {
    const auto values = random_values(count, bits);
    std::vector<uint32_t> expected(stream_words(count, bits));
    for (int64_t i = 0; i < count; ++i) set_bits(expected, i * bits, bits, values[i]);
    std::vector<uint32_t> words(expected.size(), 0xdeadbeef);
    pack_stream(values.data(), count, bits, words.data());
    EXPECT_EQ(words, expected) << count << " values of " << bits << " bits";
    std::vector<uint8_t> back(count);
    unpack_stream(words.data(), count, bits, back.data());
    EXPECT_EQ(back, values) << count << " values of " << bits << " bits";
  }
}

TEST_P(BitStream, PacksRowsDownLikeTheReference) {
  const int bits = GetParam();
  const int64_t rows = 37, cols = 96;  // more than two chunks of rows, the last one short
  rh::host_slot() = host_table();
  const auto values = random_values(rows * cols, bits);
  std::vector<uint32_t> expected(stream_words(cols, bits) * rows);
  for (int64_t r = 0; r < rows; ++r) {
    std::vector<uint32_t> row(stream_words(cols, bits));
    for (int64_t c = 0; c < cols; ++c) set_bits(row, c * bits, bits, values[r * cols + c]);
    for (size_t w = 0; w < row.size(); ++w) expected[w * rows + r] = row[w];
  }
  std::vector<uint32_t> words(expected.size(), 0xdeadbeef);
  pack_rows_down(values.data(), rows, cols, bits, words.data());
  EXPECT_EQ(words, expected);
  std::vector<uint8_t> back(values.size());
  unpack_rows_down(words.data(), rows, cols, bits, back.data());
  EXPECT_EQ(back, values);
}

INSTANTIATE_TEST_SUITE_P(Widths, BitStream, testing::Range(1, 9));

}  // namespace
}  // namespace roundhouse::formats
