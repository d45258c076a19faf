// SPDX-License-Identifier: Apache-2.0
#include "host/model/finite.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "host/base/error.h"
#include "host/model/torch_tensor.h"

namespace roundhouse {

double largest_magnitude(const Tensor& stored) {
  if (!is_floating(stored.dtype()) || stored.elements() == 0) return 0;
  const auto [low, high] = at::aminmax(to_torch(stored));  // both are NaN if any element is
  return std::max(std::abs(low.item<double>()), std::abs(high.item<double>()));
}

std::string not_finite(const Tensor& stored) {
  if (std::isfinite(largest_magnitude(stored))) return "";
  const at::Tensor bad = at::isfinite(to_torch(stored).to(at::kFloat)).logical_not().nonzero();
  const at::Tensor first = bad[0].contiguous();
  const std::vector<int64_t> at(first.const_data_ptr<int64_t>(), first.const_data_ptr<int64_t>() + first.numel());
  return cat("has ", bad.size(0), bad.size(0) == 1 ? " element that is" : " elements that are",
             " NaN or infinite, the first at ", shape_text(at));
}

void check_finite(const Tensor& stored, const std::string& name, const std::string& where) {
  if (const std::string what = not_finite(stored); !what.empty())
    throw Error(
        cat(where, ": ", name, " ", what, ". Such a checkpoint is damaged, or overflowed when it was converted."));
}

Tensor FiniteSource::load(const std::string& name) {
  Tensor tensor = source_.load(name);
  if (!checked_.contains(name) && !source_.checks_finite(name)) check_finite(tensor, name, location());
  checked_.insert(name);
  return tensor;
}

}  // namespace roundhouse
