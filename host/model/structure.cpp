// SPDX-License-Identifier: Apache-2.0
#include "host/model/structure.h"

namespace roundhouse {

std::vector<LinearInfo> AttentionInfo::linears() const {
  std::vector<LinearInfo> all;
  if (latent && latent->q_a) all.push_back(*latent->q_a);
  for (const auto& linear : {qkv, q, k, v})
    if (linear) all.push_back(*linear);
  if (latent) all.insert(all.end(), {latent->kv_a, latent->kv_b});
  all.push_back(o);
  return all;
}

std::vector<LinearInfo> MlpInfo::linears() const {
  std::vector<LinearInfo> all;
  if (gate) all.push_back(*gate);
  all.insert(all.end(), {up, down});
  return all;
}

std::vector<LinearInfo> ExpertsInfo::linears() const {
  std::vector<LinearInfo> all{router.linear};
  const auto add = [&](const MlpInfo& mlp) {
    for (LinearInfo& linear : mlp.linears()) all.push_back(std::move(linear));
  };
  if (latent_in) all.push_back(*latent_in);
  for (const MlpInfo& expert : experts) add(expert);
  if (latent_out) all.push_back(*latent_out);
  if (shared) add(*shared);
  if (shared_gate) all.push_back(*shared_gate);
  return all;
}

std::vector<std::string> ExpertsInfo::tensors() const {
  std::vector<std::string> names;
  for (const std::string& name : {router.correction_bias, router.input_scales, router.expert_scales})
    if (!name.empty()) names.push_back(name);
  for (const auto& norm : {router.norm, norm_in, norm_out, shared_norm_in, shared_norm_out}) {
    if (norm && norm->has_weight) names.push_back(norm->name + ".weight");
    if (norm && norm->has_bias) names.push_back(norm->name + ".bias");
  }
  return names;
}

std::vector<LinearInfo> RecurrentInfo::linears() const {
  std::vector<LinearInfo> all = in;
  all.push_back(out);
  return all;
}

std::vector<std::string> RecurrentInfo::tensors() const {
  std::vector<std::string> names{conv.name + ".weight"};
  if (conv.has_bias) names.push_back(conv.name + ".bias");
  for (const std::string& name : {a_log, dt_bias, d})
    if (!name.empty()) names.push_back(name);
  if (norm) names.push_back(norm->name + ".weight");
  return names;
}

std::vector<LinearInfo> LayerInputInfo::linears() const { return {gate, out}; }

bool DecoderInfo::same_positions(int64_t length, int64_t other) const {
  for (const auto& map : {rotary, window_rotary})
    if (map && map->scaling == RotaryInfo::Scaling::kLongrope &&
        (length > map->original_positions) != (other > map->original_positions))
      return false;
  return true;
}

}  // namespace roundhouse
