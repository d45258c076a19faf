#include "host/model/finite.h"

#include <ATen/ATen.h>

#include <cmath>

#include "host/base/error.h"
#include "host/model/torch_tensor.h"

namespace roundhouse {

void check_finite(const Tensor& stored, const std::string& name, const std::string& where) {
  if (!is_floating(stored.dtype()) || stored.elements() == 0) return;
  const at::Tensor tensor = to_torch(stored);
  const auto [low, high] = at::aminmax(tensor);  // both are NaN if any element is
  if (std::isfinite(low.item<double>()) && std::isfinite(high.item<double>())) return;
  const at::Tensor bad = at::isfinite(tensor.to(at::kFloat)).logical_not().nonzero();
  const at::Tensor first = bad[0].contiguous();
  const std::vector<int64_t> at(first.const_data_ptr<int64_t>(), first.const_data_ptr<int64_t>() + first.numel());
  throw Error(cat(where, ": ", name, " has ", bad.size(0), " elements that are NaN or infinite, the first at ",
                  shape_text(at), ". Such a checkpoint is damaged, or overflowed when it was converted."));
}

Tensor FiniteSource::load(const std::string& name) {
  Tensor tensor = source_.load(name);
  if (!checked_.contains(name) && !source_.checks_finite(name)) check_finite(tensor, name, location());
  checked_.insert(name);
  return tensor;
}

void check_all(FiniteSource& source) {
  for (const std::string& name : source.names()) source.load(name);
}

}  // namespace roundhouse
