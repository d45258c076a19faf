// SPDX-License-Identifier: Apache-2.0
// Damaged weights.
#pragma once

#include <string>
#include <unordered_set>
#include <utility>

#include "host/base/tensor.h"

namespace roundhouse {

// The largest magnitude in a floating-point tensor, NaN or infinity when an element is; 0 for other tensors.
double largest_magnitude(const Tensor& stored);

// "has 3 elements that are NaN or infinite, the first at [0, 1]"; "" when a tensor has none.
std::string not_finite(const Tensor& tensor);
// Throws Error with that. `where`: the checkpoint.
void check_finite(const Tensor& tensor, const std::string& name, const std::string& where);

// Another source, each of whose tensors is checked when it is first loaded, unless that source checks it, or it is one
// of `extra`, which no part of the model computes with. `source` must outlive it.
class FiniteSource : public TensorSource {
 public:
  explicit FiniteSource(TensorSource& source, std::unordered_set<std::string> extra = {})
      : source_(source), checked_(std::move(extra)) {}
  std::vector<std::string> names() const override { return source_.names(); }
  bool contains(const std::string& name) const override { return source_.contains(name); }
  std::string location() const override { return source_.location(); }
  TensorInfo info(const std::string& name) override { return source_.info(name); }
  bool checks_finite(const std::string&) const override { return true; }
  void release_pages() const override { source_.release_pages(); }
  Tensor load(const std::string& name) override;

 private:
  TensorSource& source_;
  std::unordered_set<std::string> checked_;
};

}  // namespace roundhouse
