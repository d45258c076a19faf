// SPDX-License-Identifier: Apache-2.0
#include "host/model/experts.h"

#include <ATen/ATen.h>
#include <ATen/OpMathType.h>

#include <limits>

#include "host/model/ops.h"

namespace roundhouse {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// -inf where an expert is in none of a token's best groups.
at::Tensor of_best_groups(const RouterInfo& router, const at::Tensor& scores) {
  if (router.groups == 1) return scores;
  const at::Tensor grouped = scores.unflatten(1, {router.groups, -1});
  const at::Tensor group_scores =
      std::get<0>(grouped.topk(router.by_best_two ? std::min<int64_t>(2, grouped.size(2)) : 1)).sum(-1);
  const at::Tensor best = std::get<1>(group_scores.topk(router.top_groups));
  const at::Tensor hidden = at::ones_like(group_scores, at::kBool).scatter(1, best, false);
  return grouped.masked_fill(hidden.unsqueeze(-1), -kInfinity).flatten(1);
}

// Liu et al., "GRIN: GRadient-INformed MoE", arXiv 2409.12136, as it infers: one expert after the other, each weighed
// among those that are about as good.
Routing sparsemixer(const RouterInfo& router, const at::Tensor& logits) {
  std::vector<at::Tensor> experts, weights;
  at::Tensor left = logits;
  for (int64_t i = 0; i < router.top_k; ++i) {
    const auto [best, index] = left.max(-1, /*keepdim=*/true);
    const at::Tensor range = at::maximum(logits.abs(), best);
    const at::Tensor far = ((best - logits) / range).gt(2 * router.jitter);
    weights.push_back(left.masked_fill(far, -kInfinity).softmax(-1).gather(1, index));
    experts.push_back(index);
    left = left.scatter(1, index, -kInfinity);
  }
  return {at::cat(experts, 1), at::cat(weights, 1)};
}

}  // namespace

Routing route(const RouterInfo& router, const at::Tensor& logits, const at::Tensor& correction_bias) {
  if (router.scores == RouterInfo::Scores::kSparsemixer) return sparsemixer(router, logits);
  const at::Tensor wide = logits.to(at::toOpMathType(logits.scalar_type()));
  const at::Tensor scores =
      router.scores == RouterInfo::Scores::kSigmoid ? activate(Activation::kSigmoid, wide) : wide.softmax(-1);
  at::Tensor choice = scores.detach();
  if (correction_bias.defined()) choice = choice + correction_bias;
  const at::Tensor experts = std::get<1>(of_best_groups(router, choice).topk(router.top_k));
  at::Tensor weights = scores.gather(1, experts);
  if (router.normalize) weights = weights / (weights.sum(-1, /*keepdim=*/true) + 1e-20);
  if (router.scale != 1) weights = weights * router.scale;
  return {experts, weights};
}

Experts::Experts(const ExpertsInfo& info, size_t first, at::Tensor correction_bias, const Loader& load)
    : info_(info.router),
      correction_bias_(std::move(correction_bias)),
      router_norm_(load_norm(info.router.norm, load)),
      norm_in_(load_norm(info.norm_in, load)),
      norm_out_(load_norm(info.norm_out, load)),
      shared_norm_in_(load_norm(info.shared_norm_in, load)),
      shared_norm_out_(load_norm(info.shared_norm_out, load)),
      router_(first++),
      gated_(info.shared_gate) {
  if (!info_.input_scales.empty()) input_scales_ = load(info_.input_scales, {info_.linear.in_features});
  if (!info_.expert_scales.empty()) expert_scales_ = load(info_.expert_scales, {info_.linear.out_features});
  const auto take = [&](const MlpInfo& mlp) {
    Mlp made(mlp, first, load);
    first += mlp.linears().size();
    return made;
  };
  if (info.latent_in) latent_in_ = first++;
  for (const MlpInfo& expert : info.experts) experts_.push_back(take(expert));
  if (info.latent_out) latent_out_ = first++;
  if (info.shared) shared_ = take(*info.shared);
  shared_gate_ = first;
}

at::Tensor Experts::for_router(const at::Tensor& tokens) const {
  at::Tensor x = router_norm_ ? (*router_norm_)(tokens) : tokens;
  if (input_scales_.defined()) x = x * input_scales_;
  if (info_.input_divisor != 1) x = x * (1 / info_.input_divisor);
  return info_.linear.float32 ? x.to(at::toOpMathType(x.scalar_type())) : x;
}

at::Tensor Experts::forward(const Linears& linears, const at::Tensor& x, const InputHook& all_tokens) const {
  const at::Tensor tokens = x.reshape({-1, x.size(-1)});
  const at::Tensor normed = norm_in_ ? (*norm_in_)(tokens) : tokens;
  const at::Tensor latent = latent_in_ ? linears(*latent_in_, normed) : normed;
  if (all_tokens)
    for (const Mlp& expert : experts_) expert.forward(linears, latent, all_tokens);
  auto [experts, weights] = route(info_, linears(router_, for_router(tokens)), correction_bias_);
  if (expert_scales_.defined()) weights = weights * expert_scales_.index({experts});

  // Pairs of a token and an expert, expert by expert.
  const at::Tensor pairs = experts.flatten().argsort(/*stable=*/true, /*dim=*/0, /*descending=*/false);
  const at::Tensor weight = weights.flatten().index_select(0, pairs).unsqueeze(1);
  const at::Tensor counts = experts.flatten().bincount({}, static_cast<int64_t>(experts_.size())).cpu();
  const at::Tensor tokens_of_pairs = pairs.floor_divide(info_.top_k);
  const at::Tensor scales = info_.weigh_inputs ? weight.to(x.scalar_type()) : at::Tensor();
  at::Tensor inputs = latent.index_select(0, tokens_of_pairs);
  if (scales.defined()) inputs = inputs * scales;
  const std::vector<int64_t> sizes(counts.const_data_ptr<int64_t>(), counts.const_data_ptr<int64_t>() + counts.numel());
  const std::vector<at::Tensor> of_experts = inputs.split_with_sizes(sizes);
  const auto gathered = linears.expert_gradient_hook ? std::make_shared<GatheredRows>() : nullptr;
  if (gathered) gathered->add(inputs, {latent.detach(), tokens_of_pairs, scales.defined() ? scales.detach() : scales});
  std::vector<at::Tensor> outputs;
  for (size_t i = 0; i < experts_.size(); ++i)
    if (sizes[i] > 0) outputs.push_back(experts_[i].forward(linears, of_experts[i], linears.input_hook, gathered));
  RowsHook know;
  if (gathered) know = [gathered](const at::Tensor& rows, const Rows& source) { gathered->add(rows, source); };
  at::Tensor sum = expert_sums(at::cat(outputs), info_.weigh_inputs ? at::Tensor() : weight, pairs, info_.top_k, know);
  if (latent_out_) sum = linears(*latent_out_, sum);
  if (norm_out_) sum = (*norm_out_)(sum);
  if (!shared_) return sum.view(x.sizes());
  at::Tensor shared = shared_->forward(linears, shared_norm_in_ ? (*shared_norm_in_)(tokens) : tokens);
  if (gated_) shared = activate(Activation::kSigmoid, linears(shared_gate_, tokens)) * shared;
  if (shared_norm_out_) shared = (*shared_norm_out_)(shared);
  return (sum + shared).view(x.sizes());
}

}  // namespace roundhouse
