// SPDX-License-Identifier: Apache-2.0
#include "plugins/formats/gguf/layout.h"

#include <cstring>
#include <numeric>

#include "plugins/formats/lib/text.h"

namespace roundhouse::formats {
namespace {

using Bytes = std::vector<uint8_t>;

// Pieces of `size` bytes: piece i goes to places[i], or back from there.
void permute(const std::vector<int64_t>& places, int64_t size, bool back, uint8_t* pieces) {
  const Bytes before(pieces, pieces + static_cast<int64_t>(places.size()) * size);
  for (size_t i = 0; i < places.size(); ++i) {
    const int64_t here = static_cast<int64_t>(i) * size, there = places[i] * size;
    std::memcpy(pieces + (back ? here : there), before.data() + (back ? there : here), static_cast<size_t>(size));
  }
}

// A matrix of elements of `size` bytes.
void transpose(int64_t rows, int64_t cols, int64_t size, uint8_t* matrix) {
  std::vector<int64_t> places;
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < cols; ++j) places.push_back(j * rows + i);
  permute(places, size, false, matrix);
}

void transpose_groups(const Layout& layout, int64_t cols, int64_t size, bool back, Bytes& bytes) {
  const int64_t rows = layout.parts[0];
  for (int64_t group = 0; group < layout.groups; ++group)
    transpose(back ? cols : rows, back ? rows : cols, size, bytes.data() + group * rows * cols * size);
}

// Whole heads are moved.
void permute_columns(const Layout& layout, const GgmlType& type, const std::vector<int64_t>& shape, bool back,
                     Bytes& bytes) {
  const int64_t cols = shape.back(), head = layout.parts[0];
  const std::vector<int64_t> of_columns = layout.places(cols);
  std::vector<int64_t> places;
  for (int64_t col = 0; col < cols; col += head) places.push_back(of_columns[static_cast<size_t>(col)] / head);
  for (int64_t row = 0; row < shape[0]; ++row)
    permute(places, type.row_bytes(head), back, bytes.data() + row * type.row_bytes(cols));
}

Bytes arranged(const Layout* rows, const Layout* columns, const GgmlType& type, const std::vector<int64_t>& shape,
               bool back, Bytes bytes) {
  if (columns) permute_columns(*columns, type, shape, back, bytes);
  if (!rows) return bytes;
  if (rows->transposed && back) transpose_groups(*rows, shape.back(), type.bytes, back, bytes);
  if (const std::vector<int64_t> places = rows->places(shape[0]); !places.empty())
    permute(places, static_cast<int64_t>(bytes.size()) / shape[0], back, bytes.data());
  if (rows->transposed && !back) transpose_groups(*rows, shape.back(), type.bytes, back, bytes);
  return bytes;
}

}  // namespace

int64_t Layout::sum(size_t count) const { return std::accumulate(parts.begin(), parts.begin() + count, int64_t{0}); }

std::vector<int64_t> Layout::places(int64_t rows) const {
  const int64_t in_groups = heads > 0 ? heads : groups * sum(parts.size());
  if (in_groups == 0) return {};
  const bool fit = heads > 0 ? rows % (2 * heads) == 0 && rotated <= rows / heads
                   : tail    ? rows >= in_groups
                             : rows == in_groups;
  rh::require(fit, cat(rows, " rows are no ", heads > 0 ? heads : groups, " heads"));
  std::vector<int64_t> places(static_cast<size_t>(rows));
  std::iota(places.begin(), places.end(), 0);
  if (heads > 0) {
    // llama.cpp rotates neighbours, (2i, 2i + 1), the checkpoints pairs that are half of them apart, (i, i + half).
    const int64_t size = rows / heads, half = (rotated > 0 ? rotated : size) / 2;
    for (int64_t& row : places)
      if (const int64_t i = row % size; i < 2 * half) row += i % half * 2 + i / half - i;
    return places;
  }
  auto place = places.begin() + (rows - in_groups);
  for (int64_t group = 0; group < groups; ++group)
    for (size_t part = 0; part < parts.size(); ++part)
      for (int64_t i = 0; i < parts[part]; ++i)
        *place++ = rows - in_groups + groups * sum(part) + group * parts[part] + i;
  return places;
}

Bytes to_file(const Layout* rows, const Layout* columns, const GgmlType& type, const std::vector<int64_t>& shape,
              Bytes bytes) {
  return arranged(rows, columns, type, shape, /*back=*/false, std::move(bytes));
}

Bytes to_source(const Layout* rows, const Layout* columns, const GgmlType& type, const std::vector<int64_t>& shape,
                Bytes bytes) {
  return arranged(rows, columns, type, shape, /*back=*/true, std::move(bytes));
}

Bytes transposed(int64_t rows, int64_t cols, int64_t size, Bytes bytes) {
  transpose(rows, cols, size, bytes.data());
  return bytes;
}

}  // namespace roundhouse::formats
