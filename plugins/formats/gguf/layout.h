// SPDX-License-Identifier: Apache-2.0
// How llama.cpp wants the rows and columns of a weight, where it is not as the checkpoints have them.
#pragma once

#include <cstdint>
#include <vector>

#include "plugins/formats/gguf/ggml_type.h"

namespace roundhouse::formats {

// How the file arranges the rows of a tensor of the source.
struct Layout {
  int64_t heads = 0;    // with rotary pairs side by side, in each of so many heads; 0: not
  int64_t rotated = 0;  // of a head's rows the first, which have rotary pairs; 0: all
  int64_t groups = 0;   // one below the other, each of the same parts; in the file the first part of all groups, then
  std::vector<int64_t> parts;  // the second, ...: the rows of each; 0 groups: not
  bool tail = false;           // the groups are the last rows alone
  int64_t first = 0;           // of a tensor that is two in the file: the parts that the first has
  bool transposed = false;     // and each group of the first is stored transposed

  int64_t sum(size_t count) const;  // of the first `count` parts
  // How many of the rows the first of two tensors has; without groups it has one half of them.
  int64_t first_rows(int64_t rows) const { return groups == 0 ? rows / 2 : groups * sum(static_cast<size_t>(first)); }
  // Where each row of the source stands in the file; empty: in the same order. Throws rh::Error for rows that do not fit.
  std::vector<int64_t> places(int64_t rows) const;
};

// The bytes of a tensor of that shape in the source, of its rows and columns: in the file's order, or back from it. Where it
// is two tensors in the file, the second's bytes follow the first's. A layout may be null.
std::vector<uint8_t> to_file(const Layout* rows, const Layout* columns, const GgmlType& type,
                             const std::vector<int64_t>& shape, std::vector<uint8_t> bytes);
std::vector<uint8_t> to_source(const Layout* rows, const Layout* columns, const GgmlType& type,
                               const std::vector<int64_t>& shape, std::vector<uint8_t> bytes);

// The bytes of a matrix of elements of `size` bytes as those of the transposed one.
std::vector<uint8_t> transposed(int64_t rows, int64_t cols, int64_t size, std::vector<uint8_t> bytes);

}  // namespace roundhouse::formats
