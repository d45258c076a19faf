// SPDX-License-Identifier: Apache-2.0
#include "host/model/mlp.h"

#include <ATen/ATen.h>

namespace roundhouse {

Mlp::Mlp(MlpInfo info, size_t first, const Loader& load) : info_(std::move(info)), first_(first) {
  if (info_.activation != Activation::kXielu) return;
  const auto parameter = [&](const char* name, at::IntArrayRef shape) {
    return load(info_.activation_name + "." + name, shape);
  };
  const at::Tensor beta = parameter("beta", {});
  xielu_ = {at::softplus(parameter("alpha_p", {1})), beta + at::softplus(parameter("alpha_n", {1})), beta,
            parameter("eps", {})};
}

at::Tensor Mlp::forward(const Linears& linears, const at::Tensor& x) const {
  const at::Tensor first = linears(first_, x);
  const size_t down = first_ + (info_.gate ? 2 : 1);
  if (info_.gate) return linears(down, activate_and_multiply(info_.activation, first, linears(first_ + 1, x)));
  if (!info_.fused) return linears(down, xielu_ ? activate(*xielu_, first) : activate(info_.activation, first));
  const int64_t half = first.size(-1) / 2;
  return linears(down,
                 activate_and_multiply(info_.activation, first.narrow(-1, 0, half), first.narrow(-1, half, half)));
}

}  // namespace roundhouse
