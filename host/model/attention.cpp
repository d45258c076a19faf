// SPDX-License-Identifier: Apache-2.0
#include "host/model/attention.h"

#include <ATen/ATen.h>
#include <ATen/OpMathType.h>

#include <algorithm>
#include <cmath>

#include "host/model/ops.h"

namespace roundhouse {
namespace {

// x: [batch, seq, heads, head_dim]
void apply(const std::optional<LoadedNorm>& norm, at::Tensor& x) {
  if (!norm) return;
  const int64_t head_dim = x.size(-1);
  x = norm->info.size == head_dim ? (*norm)(x) : (*norm)(x.flatten(-2)).unflatten(-1, {-1, head_dim});
}

}  // namespace

Attention::Attention(AttentionInfo info, size_t first, const Loader& load)
    : info_(std::move(info)),
      first_(first),
      q_norm_(load_norm(info_.q_norm, load)),
      k_norm_(load_norm(info_.k_norm, load)),
      v_norm_(load_norm(info_.v_norm, load)) {
  if (info_.latent) {
    q_latent_norm_ = load_norm(info_.latent->q_norm, load);
    kv_latent_norm_ = load_norm(info_.latent->kv_norm, load);
  }
  if (!info_.sinks.empty()) sinks_ = load(info_.sinks, {info_.heads});
}

at::Tensor Attention::forward(const Linears& linears, const at::Tensor& x, const PositionData& positions,
                              at::Tensor& passed_on) const {
  size_t slot = first_;
  const at::Tensor input = info_.input_scale == 1 ? x : x * info_.input_scale;
  Heads heads;
  if (info_.latent) {
    heads = project_latent(linears, input, slot, positions);
  } else {
    heads = project(linears, input, slot);
    if (info_.norms_after_rotary) rotate(heads, positions);
    apply(q_norm_, heads.q);
    apply(k_norm_, heads.k);
    apply(v_norm_, heads.v);
    if (!info_.norms_after_rotary) rotate(heads, positions);
    share(heads, passed_on);
  }
  if (info_.length_scale) heads.q = heads.q * positions.length_scale;
  at::Tensor mixed = mix(heads, positions).transpose(1, 2).flatten(2);
  if (heads.gate.defined()) mixed = activate_and_multiply(Activation::kSigmoid, heads.gate.flatten(2), mixed);
  return linears(slot, mixed);
}

Attention::Heads Attention::project(const Linears& linears, const at::Tensor& x, size_t& slot) const {
  const int64_t d = info_.head_dim;
  Heads heads;
  if (info_.qkv && info_.layout == FusedLayout::kRows) {
    const at::Tensor all = linears(slot++, x).unflatten(-1, {-1, d});
    heads.q = all.narrow(2, 0, info_.heads);
    heads.k = all.narrow(2, info_.heads, info_.kv_heads);
    heads.v = all.narrow(2, info_.heads + info_.kv_heads, info_.kv_heads);
    return heads;
  }
  if (info_.qkv) {
    const int64_t group = info_.heads / info_.kv_heads;
    const at::Tensor all = linears(slot++, x).unflatten(-1, {-1, group + 2, d});
    heads.q = all.narrow(3, 0, group).flatten(2, 3);
    heads.k = all.select(3, group);
    heads.v = all.select(3, group + 1);
    return heads;
  }
  heads.q = linears(slot++, x).unflatten(-1, {info_.heads, -1});
  if (info_.output_gate) {
    heads.gate = heads.q.narrow(-1, d, d);
    heads.q = heads.q.narrow(-1, 0, d);
  }
  if (!info_.k) return heads;
  heads.k = linears(slot++, x).unflatten(-1, {-1, d});
  heads.v = info_.v ? linears(slot++, x).unflatten(-1, {-1, d}) : heads.k;
  return heads;
}

Attention::Heads Attention::project_latent(const Linears& linears, const at::Tensor& x, size_t& slot,
                                           const PositionData& positions) const {
  const LatentInfo& latent = *info_.latent;
  at::Tensor q = x;
  if (latent.q_a) q = linears(slot++, x);
  if (q_latent_norm_) q = (*q_latent_norm_)(q);
  q = linears(slot++, q).unflatten(-1, {info_.heads, -1});
  const at::Tensor a = linears(slot++, x);
  const at::Tensor kv =
      linears(slot++, (*kv_latent_norm_)(a.narrow(-1, 0, latent.rank))).unflatten(-1, {info_.heads, -1});
  Heads turned;  // the features that are rotated
  turned.q = q.narrow(-1, latent.nope, latent.rope);
  turned.k = a.narrow(-1, latent.rank, latent.rope).unsqueeze(2);
  rotate(turned, positions);
  Heads heads;
  heads.q = at::cat({q.narrow(-1, 0, latent.nope), turned.q}, -1);
  heads.k = at::cat({kv.narrow(-1, 0, latent.nope), turned.k.expand({-1, -1, info_.heads, -1})}, -1);
  heads.v = kv.narrow(-1, latent.nope, latent.value);
  return heads;
}

void Attention::rotate(Heads& heads, const PositionData& positions) const {
  if (!info_.rotary) return;
  const Rotation& rotation = positions.rotation(*info_.rotary);
  for (at::Tensor* x : {&heads.q, &heads.k})
    if (x->defined()) *x = roundhouse::rotate(*x, rotation.cos, rotation.sin, rotation.info.interleaved);
}

void Attention::share(Heads& heads, at::Tensor& passed_on) const {
  const int64_t size = info_.kv_heads * info_.head_dim;
  if (info_.kv_to) {
    const at::Tensor kv = at::cat({heads.k.flatten(2), heads.v.flatten(2)}, -1);
    passed_on = at::slice_scatter(passed_on, kv, -1, *info_.kv_to, *info_.kv_to + 2 * size);
  }
  if (info_.kv_from) {
    const auto part = [&](int64_t at) { return passed_on.narrow(-1, at, size).unflatten(-1, {info_.kv_heads, -1}); };
    heads.k = part(*info_.kv_from);
    heads.v = part(*info_.kv_from + size);
  }
}

// [batch, heads, seq, head_dim]
at::Tensor Attention::mix(const Heads& heads, const PositionData& positions) const {
  const int64_t window = std::min(info_.sliding_window.value_or(positions.seqlen), positions.seqlen);
  std::optional<at::Tensor> mask;
  if (info_.alibi)
    mask = positions.alibi;
  else if (window < positions.seqlen || info_.needs_mask())
    mask = positions.masks.at({window, info_.chunked});
  if (info_.softcap) return mix_capped(heads, *mask);

  at::Tensor q = heads.q.transpose(1, 2), k = heads.k.transpose(1, 2), v = heads.v.transpose(1, 2);
  if (sinks_.defined()) {
    // One more key, of zeros, whose score is the mask's alone, and whose value is zero.
    k = at::constant_pad_nd(k, {0, 0, 0, 1});
    v = at::constant_pad_nd(v, {0, 0, 0, 1});
    const at::Tensor column = sinks_.view({-1, 1, 1}).expand({-1, positions.seqlen, 1});
    mask = at::cat({mask->expand({info_.heads, -1, -1}), column}, -1).unsqueeze(0);
  }
  bool grouped = info_.heads != info_.kv_heads;
  if (grouped && mask && !q.is_cpu()) {
    // CUDA's attention with a mask wants as many heads of keys as of queries, or takes memory for all scores.
    const auto repeat = [&](const at::Tensor& x) {
      return x.unsqueeze(2).expand({-1, -1, info_.heads / info_.kv_heads, -1, -1}).flatten(1, 2);
    };
    k = repeat(k);
    v = repeat(v);
    grouped = false;
  }
  return at::scaled_dot_product_attention(q, k, v, mask, /*dropout_p=*/0, /*is_causal=*/!mask, info_.scale,
                                          /*enable_gqa=*/grouped);
}

at::Tensor Attention::mix_capped(const Heads& heads, const at::Tensor& mask) const {
  const int64_t group = info_.heads / info_.kv_heads;
  const double scale = info_.scale.value_or(1 / std::sqrt(static_cast<double>(info_.head_dim)));
  // [batch, kv_heads, group, seq, ...]
  const at::Tensor q = heads.q.transpose(1, 2).unflatten(1, {-1, group});
  const at::Tensor k = heads.k.transpose(1, 2).unsqueeze(2), v = heads.v.transpose(1, 2).unsqueeze(2);
  const at::Tensor scores = soft_cap(at::matmul(q, k.transpose(-1, -2)) * scale, *info_.softcap) + mask;
  return at::matmul(at::softmax(scores, -1, at::toOpMathType(q.scalar_type())).to(q.scalar_type()), v).flatten(1, 2);
}

}  // namespace roundhouse
