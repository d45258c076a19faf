// SPDX-License-Identifier: Apache-2.0
// Stacks of matrices in a checkpoint, such as experts, as the matrices themselves.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "host/base/stack.h"
#include "host/base/tensor.h"

namespace roundhouse {

// A tensor of three dimensions: count matrices of [rows, cols], or, transposed, of [cols, rows]; or one of two: their
// biases [rows].
struct StackedTensor {
  std::string name;  // of the tensor
  std::vector<std::string>
      parts;  // the weights' names; "{}" stands for the matrix. The rows of each matrix are these parts,
              // equally high, one below the other
  bool transposed = false;
  bool interleaved = false;  // the parts' rows take turns
};

// Another source, in which these tensors are 2-D weights and biases, matrix by matrix.
class StackedSource : public TensorSource {
 public:
  StackedSource(std::unique_ptr<TensorSource> inner, const std::vector<StackedTensor>& stacks);

  TensorSource& inner() const { return *inner_; }
  // RH_STACK_*: how the weight is stored.
  int32_t storage(const std::string& name) const;
  std::vector<std::string> names() const override { return names_; }
  bool contains(const std::string& name) const override;
  Tensor load(const std::string& name) override;
  TensorInfo info(const std::string& name) override;
  void release_pages() const override { inner_->release_pages(); }
  std::string location() const override { return inner_->location(); }

 private:
  struct Part {
    std::string tensor;
    int64_t matrix, part, parts;
    bool transposed, interleaved;
  };

  std::unique_ptr<TensorSource> inner_;
  std::vector<std::string> names_;
  std::unordered_map<std::string, Part> parts_;
};

}  // namespace roundhouse
