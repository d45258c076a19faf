// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/expert_tokens.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "host/abi/quantizer.h"
#include "host/model/torch_tensor.h"
#include "host/plan/layer_check.h"
#include "host/ranks/ranks.h"

namespace roundhouse {

ExpertTokens::ExpertTokens(const std::vector<LinearInfo>& linears) {
  std::string counted;  // the stack whose linears count: an expert's linears get the same tokens
  for (const LinearInfo& linear : linears) {
    if (!linear.stack) continue;
    if (counted.empty()) counted = linear.stack->name;
    experts_[linear.name] = {static_cast<size_t>(linear.stack->index), linear.stack->name == counted};
    by_expert_.resize(static_cast<size_t>(linear.stack->count));
  }
}

void ExpertTokens::add(const LinearInfo& linear, const at::Tensor& input) {
  const auto found = experts_.find(linear.name);
  if (found != experts_.end() && found->second.second) by_expert_[found->second.first] += input.size(0);
}

void ExpertTokens::join_ranks() {
  if (rank_count() == 1) return;
  const std::vector<std::string> all = ranks()->from_all(nlohmann::json(by_expert_).dump());
  std::fill(by_expert_.begin(), by_expert_.end(), 0);
  for (const std::string& text : all) {
    const auto counts = nlohmann::json::parse(text).get<std::vector<int64_t>>();
    for (size_t i = 0; i < counts.size(); ++i) by_expert_[i] += counts[i];
  }
}

bool ExpertTokens::few(const std::string& linear, int64_t least) const {
  const auto found = experts_.find(linear);
  return found != experts_.end() && by_expert_[found->second.first] < least;
}

void share_importance(Importance& importance, const std::vector<LinearInfo>& linears,
                      const std::vector<const LayerPlan*>& few) {
  std::map<std::string, std::pair<at::Tensor, double>> of_stacks;  // sums, in the experts' order, and their tokens
  for (const LinearInfo& linear : linears) {
    const auto found = importance.find(linear.name);
    if (!linear.stack || found == importance.end()) continue;
    auto& [sum, count] = of_stacks[linear.stack->name];
    const at::Tensor own = to_torch(found->second.sums);
    sum = sum.defined() ? sum + own : own;
    count += found->second.count;
  }
  for (const LayerPlan* layer : few) {
    const auto& [sum, count] = of_stacks[layer->info.stack->name];
    if (sum.defined() && sum.max().item<float>() > 0) importance[layer->info.name] = {from_torch(sum), count};
  }
}

LayerPlan untuned(LayerPlan plan, const Catalogue& catalogue) {
  TensorScheme& scheme = *plan.scheme.weight;
  const DtypeRecord* const record = catalogue.find_dtype(scheme.dtype);
  scheme.rounding = record && (record->supports & RH_SUPPORTS_SEARCH) ? Rounding::kSearch : Rounding::kPlain;
  return plan;
}

LayerPlan untuned_as_planned(LayerPlan plan, Catalogue& catalogue) {
  plan.too_few_tokens = true;
  TensorScheme& scheme = *plan.scheme.weight;
  const LoadedDtype& dtype = catalogue.dtype(scheme.dtype);
  const uint32_t supports = catalogue.find_dtype(scheme.dtype)->supports;
  const Rounding planned = scheme.rounding;
  const QuantizerTarget target{plan.info.name, plan.info.role,   plan.info.out_features, plan.info.in_features,
                               plan.dtype,     RH_TARGET_WEIGHT, plan.info.stack};
  for (const auto& [rounding, needs] : {std::pair{Rounding::kSearch, RH_SUPPORTS_SEARCH},
                                        {Rounding::kTunedSearch, RH_SUPPORTS_TUNED_SEARCH},
                                        {Rounding::kPlain, RH_SUPPORTS_WEIGHTS}}) {
    if (!(supports & needs)) continue;
    scheme.rounding = rounding;
    if (!dtype_refusal(catalogue, plan).empty()) continue;
    const Quantizer quantizer(dtype, scheme, target);
    if (quantizer.info().encoding && same_encoding(*quantizer.info().encoding, plan.encoding->get())) return plan;
  }
  scheme.rounding = planned;
  return plan;
}

}  // namespace roundhouse
