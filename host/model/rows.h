// SPDX-License-Identifier: Apache-2.0
// Rows that can be made again from a smaller tensor, so that nobody need keep them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <vector>

namespace roundhouse {

struct Rows {
  at::Tensor base;    // [n, features]; with an index [any, features]
  at::Tensor index;   // int64 [n], or undefined
  at::Tensor scales;  // [n, 1], or undefined

  bool defined() const { return base.defined(); }
  // [n, features]: the rows of `base`, times the scales in the wider type of both, in the type of `base`.
  at::Tensor take() const;
  // Of what nothing else holds.
  size_t bytes() const { return index.defined() ? 0 : base.nbytes(); }
};

// Knows of some tensors that they are rows of others. Holds them.
class GatheredRows {
 public:
  // gathered [n, features], contiguous, equals rows.take().
  void add(const at::Tensor& gathered, const Rows& rows);
  // Some rows x [n, features], one after the other, of a tensor that was added; any other tensor is its own base.
  Rows of(const at::Tensor& x) const;

 private:
  struct Entry {
    at::Tensor gathered;
    Rows rows;
  };
  std::vector<Entry> entries_;
};

}  // namespace roundhouse
