// SPDX-License-Identifier: Apache-2.0
// The unit of sums: the samples that pass a block at once. The recipe alone fixes it, and what units give is joined by
// a fixed tree, so that no result depends on how an iteration's samples are written as batches, nor on the device's
// memory.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

namespace roundhouse {

constexpr int64_t kUnitTokens = 1024;  // enough rows to keep a matrix product busy

// As few whole samples as hold kUnitTokens tokens.
// REQUIRES: seqlen > 0.
inline int64_t unit_samples(int64_t seqlen) {
  assert(seqlen > 0);
  return (kUnitTokens + seqlen - 1) / seqlen;
}

// Calls body(begin, end) for each unit of samples of `seqlen` tokens; the last may be smaller.
template <typename Body>
void for_units(int64_t samples, int64_t seqlen, const Body& body) {
  const int64_t unit = unit_samples(seqlen);
  for (int64_t begin = 0; begin < samples; begin += unit) body(begin, std::min(samples, begin + unit));
}

// a + b, in float32 at least. May write into `a`.
at::Tensor sum_of(const at::Tensor& a, const at::Tensor& b);

// Joins values in their order by a binary tree that their number fixes: neighbours, then neighbours of these pairs, and
// so on; a value without a neighbour goes up as it is. Of five: ((0 + 1) + (2 + 3)) + 4. A subtree of 2^k values that
// begins at a multiple of 2^k is the same in every tree that has it. Holds log2 of their number.
class UnitTree {
 public:
  using Join = std::function<at::Tensor(const at::Tensor& a, const at::Tensor& b)>;

  explicit UnitTree(Join join = sum_of) : join_(std::move(join)) {}

  // Takes the value over. An undefined one keeps its place in the tree, and nothing is joined with it.
  void add(at::Tensor value) {
    for (int64_t place = count_++; place % 2 == 1; place /= 2) value = joined(pop(), value);
    parts_.push_back(std::move(value));
  }
  bool empty() const { return count_ == 0; }
  // Fills the places before the `count`th with undefined values.
  void skip_to(int64_t count) {
    while (count_ < count) add({});
  }
  // The whole, or an undefined tensor when there was no defined value. The tree is empty then.
  at::Tensor take() {
    if (parts_.empty()) return {};
    at::Tensor whole = pop();
    while (!parts_.empty()) whole = joined(pop(), whole);
    count_ = 0;
    return whole;
  }

 private:
  at::Tensor joined(const at::Tensor& a, const at::Tensor& b) const {
    return !a.defined() ? b : !b.defined() ? a : join_(a, b);
  }
  at::Tensor pop() {
    at::Tensor last = std::move(parts_.back());
    parts_.pop_back();
    return last;
  }

  Join join_;
  int64_t count_ = 0;
  std::vector<at::Tensor> parts_;  // subtrees of 2^k values, k falling: the ones of count_ in binary
};

// What a UnitTree gives of the values, undefined ones among them, in one pass over them. May write into them.
// REQUIRES: those that are defined have one shape and type.
at::Tensor tree_sum(const std::vector<at::Tensor>& values);

}  // namespace roundhouse
