// SPDX-License-Identifier: Apache-2.0
#include "host/model/loading.h"

#include <ATen/ATen.h>
#include <ATen/OpMathType.h>

#include "host/base/error.h"
#include "host/model/finite.h"
#include "host/model/linears.h"
#include "host/model/ops.h"
#include "host/model/torch_tensor.h"

namespace roundhouse {

at::Tensor Linears::apply(size_t slot, const at::Tensor& input, const InputHook& hook,
                          const std::shared_ptr<GatheredRows>& gathered) const {
  const LinearSlot& s = slots[slot];
  const at::ScalarType type = s.info.float32 ? input.scalar_type() : s.weight.scalar_type();
  const at::Tensor x = hook ? hook(s.info, input) : input;
  const bool of_expert = x.dim() == 2;
  const at::Tensor y = of_expert && gathered && s.weight.requires_grad()
                           ? hooked_linear(x, s.weight, s.bias,
                                           [this, slot, gathered](const at::Tensor& x, const at::Tensor& dy) {
                                             expert_gradient_hook(slots[slot].info, gathered->of(x), gathered->of(dy));
                                           })
                       : of_expert ? at::linear(with_round_rows(x), s.weight.to(type), s.bias).narrow(0, 0, x.size(0))
                                   : at::linear(x, s.weight.to(type), s.bias);
  return s.info.output_scale == 1 ? y : y * s.info.output_scale;
}

at::Tensor load_checked(TensorSource& source, const std::string& name, at::IntArrayRef shape) {
  const Tensor tensor = source.load(name);
  if (at::IntArrayRef(tensor.shape()) != shape)
    throw Error(cat(source.location(), ": ", name, " has the shape ", shape_text(tensor.shape()),
                    ", but config.json says ", shape_text(shape.vec())));
  if (!is_floating(tensor.dtype()))
    throw Error(cat(source.location(), ": ", name, " is of type ", safetensors_name(tensor.dtype()),
                    ", but floating-point weights are expected; is the checkpoint quantized already?"));
  if (!source.checks_finite(name)) check_finite(tensor, name, source.location());
  return to_torch(tensor);
}

std::optional<LoadedNorm> load_norm(const std::optional<NormInfo>& info, const Loader& load) {
  if (!info) return std::nullopt;
  LoadedNorm norm{*info, {}, {}};
  const std::vector<int64_t> shape = info->heads > 1 ? std::vector{info->heads, info->size} : std::vector{info->size};
  if (info->has_weight) norm.weight = load(info->name + ".weight", shape);
  if (info->has_bias) norm.bias = load(info->name + ".bias", shape);
  if (!norm.weight.defined()) return norm;
  if (info->float32) norm.weight = norm.weight.to(at::toOpMathType(norm.weight.scalar_type()));
  if (info->plus_one) norm.weight = norm.weight + 1;
  return norm;
}

at::Tensor LoadedNorm::operator()(const at::Tensor& x) const {
  if (info.kind == NormKind::kRms && !info.float32 && weight.defined()) return rms_norm(x, weight, info.eps);
  const at::ScalarType math = at::toOpMathType(x.scalar_type());
  if (info.kind == NormKind::kRms) {
    const at::Tensor scale = weight.defined() ? weight : at::ones({info.size}, x.options().dtype(math));
    return rms_norm(x.to(math), scale, info.eps).to(x.scalar_type());
  }
  if (info.heads == 1) return at::layer_norm(x, {info.size}, weight, bias, info.eps);
  at::Tensor y = at::layer_norm(x.to(math), {info.size}, {}, {}, info.eps) * weight;
  if (bias.defined()) y = y + bias;
  return y.to(x.scalar_type());
}

}  // namespace roundhouse
