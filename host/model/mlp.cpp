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

at::Tensor Mlp::forward(const Linears& linears, const at::Tensor& x, const InputHook& hook,
                        const std::shared_ptr<GatheredRows>& gathered) const {
  const size_t down_slot = first_ + (info_.gate ? 2 : 1);
  const auto down = [&](const at::Tensor& y) { return linears.apply(down_slot, y, hook, gathered); };
  const at::Tensor first = linears.apply(first_, x, hook, gathered);
  if (info_.gate) {
    const at::Tensor up = linears.apply(first_ + 1, x, hook, gathered);
    if (!info_.clamped) return down(activate_and_multiply(info_.activation, first, up));
    const auto [limit, alpha] = *info_.clamped;
    const at::Tensor cut = first.clamp_max(limit);
    return down((up.clamp(-limit, limit) + 1) * (cut * activate(Activation::kSigmoid, cut * alpha)));
  }
  if (!info_.fused) return down(xielu_ ? activate(*xielu_, first) : activate(info_.activation, first));
  const int64_t half = first.size(-1) / 2;
  return down(activate_and_multiply(info_.activation, first.narrow(-1, 0, half), first.narrow(-1, half, half)));
}

}  // namespace roundhouse
