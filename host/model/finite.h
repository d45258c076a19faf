// Damaged weights.
#pragma once

#include <string>
#include <unordered_set>
#include <vector>

#include "host/base/tensor.h"

namespace roundhouse {

// Throws Error, with where the first of them is, when a floating-point tensor holds NaN or infinity. `where`: the
// checkpoint.
void check_finite(const Tensor& tensor, const std::string& name, const std::string& where);

// Another source, each of whose tensors is checked when it is first loaded, unless that source checks it. `source` must
// outlive it.
class FiniteSource : public TensorSource {
 public:
  explicit FiniteSource(TensorSource& source) : source_(source) {}
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

// Loads every tensor once, so that the first that is not finite is told now.
void check_all(FiniteSource& source);

}  // namespace roundhouse
