// SPDX-License-Identifier: Apache-2.0
#include "host/model/recurrent.h"

#include <ATen/ATen.h>
#include <ATen/OpMathType.h>

#include <cmath>

#include "host/model/gated_scan.h"
#include "host/model/ops.h"

namespace roundhouse {
namespace {

using Kind = RecurrentInfo::Kind;

at::Tensor widened(const at::Tensor& x) { return x.to(at::toOpMathType(x.scalar_type())); }

// Of length `length`, in float32 at least.
at::Tensor unit_vectors(const at::Tensor& x, double length) {
  constexpr double kEps = 1e-6;  // of the squared length, in all known models
  const auto size = static_cast<double>(x.size(-1));
  const at::Tensor wide = widened(x);
  return rms_norm(wide, at::full({1}, length / std::sqrt(size), wide.options()), kEps / size);
}

}  // namespace

Recurrent::Recurrent(RecurrentInfo info, size_t first, const Loader& load) : info_(std::move(info)), first_(first) {
  const ConvInfo& conv = info_.conv;
  conv_weight_ = widened(load(conv.name + ".weight", {conv.channels, 1, conv.kernel})).squeeze(1).t().contiguous();
  if (conv.has_bias) conv_bias_ = widened(load(conv.name + ".bias", {conv.channels}));
  if (info_.kind == Kind::kShortConv) return;
  a_ = -at::exp(widened(load(info_.a_log, {info_.heads})));
  dt_bias_ = load(info_.dt_bias, {info_.heads});
  if (info_.norm) norm_weight_ = load(info_.norm->name + ".weight", {info_.norm->heads * info_.norm->size});
  if (info_.kind == Kind::kDeltaRule) return;
  d_ = widened(load(info_.d, {info_.heads}));
  if (info_.norm) norm_weight_ = widened(norm_weight_).view({info_.norm->heads, info_.norm->size});
  if (info_.scales.empty()) return;
  const int64_t inner = info_.heads * info_.head_dim, keys = info_.key_heads * info_.key_dim;
  const int64_t rows[] = {inner, inner, keys, keys, info_.heads};
  std::vector<at::Tensor> scales;
  for (size_t i = 0; i < info_.scales.size(); ++i)
    scales.push_back(at::full({rows[i]}, info_.scales[i], dt_bias_.options()));
  scales_ = at::cat(scales);
}

at::Tensor Recurrent::forward(const Linears& linears, const at::Tensor& x) const {
  const at::Tensor y = info_.kind == Kind::kShortConv   ? short_conv(linears, x)
                       : info_.kind == Kind::kDeltaRule ? delta_rule(linears, x)
                                                        : mamba2(linears, x);
  return linears(first_ + info_.in.size(), y);
}

at::Tensor Recurrent::convolve(const at::Tensor& x) const {
  const int64_t kernel = info_.conv.kernel, seqlen = x.size(1);
  const at::Tensor padded = at::constant_pad_nd(widened(x), {0, 0, kernel - 1, 0});
  at::Tensor sum;
  for (int64_t i = 0; i < kernel; ++i) {
    const at::Tensor term = padded.narrow(1, i, seqlen) * conv_weight_[i];
    sum = sum.defined() ? sum + term : term;
  }
  if (conv_bias_.defined()) sum = sum + conv_bias_;
  return sum.to(x.scalar_type());
}

at::Tensor Recurrent::split_heads(const at::Tensor& x, int64_t group, int64_t features) const {
  return features == 0 ? x.unflatten(-1, {info_.key_heads, group}).permute({0, 2, 3, 1})
                       : x.unflatten(-1, {info_.key_heads, group, features}).permute({0, 2, 3, 1, 4});
}

at::Tensor Recurrent::short_conv(const Linears& linears, const at::Tensor& x) const {
  const std::vector<at::Tensor> parts = linears(first_, x).chunk(3, -1);
  return parts[1] * convolve(parts[0] * parts[2]);
}

at::Tensor Recurrent::delta_rule(const Linears& linears, const at::Tensor& x) const {
  const int64_t group = info_.heads / info_.key_heads, values = group * info_.head_dim,
                keys = info_.key_heads * info_.key_dim;
  at::Tensor qkv, z, b, a;
  if (info_.in.size() == 2) {
    const auto qkvz = linears(first_, x).unflatten(-1, {info_.key_heads, -1});
    const auto parts = qkvz.split_with_sizes({info_.key_dim, info_.key_dim, values, values}, -1);
    qkv = at::cat({parts[0].flatten(2), parts[1].flatten(2), parts[2].flatten(2)}, -1);
    z = parts[3].flatten(2);
    const auto ba = linears(first_ + 1, x).unflatten(-1, {info_.key_heads, -1}).chunk(2, -1);
    b = ba[0].flatten(2);
    a = ba[1].flatten(2);
  } else {
    qkv = linears(first_, x);
    z = linears(first_ + 1, x);
    b = linears(first_ + 2, x);
    a = linears(first_ + 3, x);
  }
  const auto mixed =
      activate(info_.activation, convolve(qkv)).split_with_sizes({keys, keys, info_.heads * info_.head_dim}, -1);
  const at::Tensor q = split_heads(mixed[0], 1, info_.key_dim), k = split_heads(mixed[1], 1, info_.key_dim);
  const at::Tensor g = a_ * activate(Activation::kSoftplus, widened(a) + dt_bias_);
  const at::Tensor beta = widened(activate(Activation::kSigmoid, b));
  const at::Tensor y = gated_scan(unit_vectors(q, 1 / std::sqrt(static_cast<double>(info_.key_dim))),
                                  unit_vectors(k, 1), widened(split_heads(mixed[2], group, info_.head_dim)),
                                  split_heads(g, group, 0), split_heads(beta, group, 0));
  // [batch, seq, key_heads, group, head_dim]
  const at::Tensor normed =
      rms_norm(y.permute({0, 3, 1, 2, 4}).to(x.scalar_type()), norm_weight_, info_.norm->eps).flatten(2);
  return activate_and_multiply(Activation::kSilu, widened(z), widened(normed)).to(x.scalar_type());
}

at::Tensor Recurrent::mamba2(const Linears& linears, const at::Tensor& x) const {
  const int64_t group = info_.heads / info_.key_heads, inner = info_.heads * info_.head_dim,
                keys = info_.key_heads * info_.key_dim;
  at::Tensor all = linears(first_, info_.input_scale == 1 ? x : x * info_.input_scale);
  if (scales_.defined()) all = all * scales_;
  const auto parts = all.split_with_sizes({inner, inner + 2 * keys, info_.heads}, -1);
  const auto mixed = activate(info_.activation, convolve(parts[1])).split_with_sizes({inner, keys, keys}, -1);
  const at::Tensor dt =
      activate(Activation::kSoftplus, parts[2] + dt_bias_)
          .clamp(info_.dt_min, info_.dt_max ? std::optional<at::Scalar>(*info_.dt_max) : std::nullopt);
  const at::Tensor wide_dt = widened(dt), values = widened(mixed[0]).unflatten(-1, {info_.heads, -1});
  const auto of_group = [&](const at::Tensor& part) { return widened(split_heads(part, 1, info_.key_dim)); };
  const at::Tensor scanned = gated_scan(of_group(mixed[2]), of_group(mixed[1]),
                                        split_heads((values * wide_dt.unsqueeze(-1)).flatten(2), group, info_.head_dim),
                                        split_heads(a_ * wide_dt, group, 0), std::nullopt);
  at::Tensor y = (scanned.permute({0, 3, 1, 2, 4}).flatten(2, 3) + values * d_.unsqueeze(-1)).flatten(2);
  const at::Tensor& gate = parts[0];
  if (!info_.norm) return (y * widened(activate(Activation::kSilu, gate))).to(x.scalar_type());
  const auto norm = [&] {
    y = rms_norm(y.unflatten(-1, {info_.norm->heads, -1}), norm_weight_, info_.norm->eps).flatten(2);
  };
  if (info_.norm_before_gate) norm();
  y = activate_and_multiply(Activation::kSilu, widened(gate), y);
  if (!info_.norm_before_gate) norm();
  return y.to(x.scalar_type());
}

}  // namespace roundhouse
