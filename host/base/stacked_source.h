// SPDX-License-Identifier: Apache-2.0
// Stacks of matrices in a checkpoint, such as experts, as the matrices themselves.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "host/base/stack.h"
#include "host/base/tensor.h"

namespace roundhouse {

// A tensor of three dimensions: count matrices of [rows, cols], or, transposed, of [cols, rows]; or one of two: their
// biases [rows]. Or one of two dimensions that is a matrix by itself, transposed: its only part has the tensor's name.
struct StackedTensor {
  std::string name;  // of the tensor
  std::vector<std::string>
      parts;  // the weights' names; "{}" stands for the matrix. The rows of each matrix are these parts,
              // equally high, one below the other
  bool transposed = false;
  bool interleaved = false;  // the parts' rows take turns
  bool only = false;         // rh_part's
  // Where the source has no such tensor: how many matrices it gives one by one, not transposed, by these names, or, without
  // any, by the parts' names.
  int64_t count = 0;
  std::string matrices = {};
};

// Another source, in which these tensors are 2-D weights and biases, matrix by matrix, and which tells of each where it
// belongs.
class StackedSource : public TensorSource {
 public:
  StackedSource(std::unique_ptr<TensorSource> inner, const std::vector<StackedTensor>& stacks);

  TensorSource& inner() const { return *inner_; }
  // Nothing: the tensor is one of its own.
  std::optional<StackedPart> part(const std::string& name) const;
  std::vector<std::string> names() const override { return names_; }
  bool contains(const std::string& name) const override;
  Tensor load(const std::string& name) override;
  TensorInfo info(const std::string& name) override;
  void release_pages() const override { inner_->release_pages(); }
  std::string location() const override { return inner_->location(); }

 private:
  struct Part {
    StackedPart place;
    std::string stored;  // the tensor that has it, alone or with the other parts of its matrix; "": place.tensor
  };
  // The parts of a matrix that is a tensor, or, "", in the stack's.
  void add(const StackedTensor& stack, int64_t matrix, int64_t count, const std::string& stored);

  std::unique_ptr<TensorSource> inner_;
  std::vector<std::string> names_;
  std::unordered_map<std::string, Part> parts_;
};

// As StackedSource::part, of any source.
std::optional<StackedPart> part_of(const TensorSource& source, const std::string& name);

}  // namespace roundhouse
