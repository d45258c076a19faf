// SPDX-License-Identifier: Apache-2.0
#include "host/plan/tensor_check.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "host/base/error.h"
#include "host/base/words.h"

namespace roundhouse {
namespace {

std::string advice_on_heads(const Plan& plan, const nlohmann::json& config) {
  const std::string generic = cat(" is taken with architecture: generic",
                                  plan.recipe.tuning.iters == 0 ? "" : " and tuning.iters: 0", " in the recipe");
  const nlohmann::json classes = config.value("architectures", nlohmann::json());
  std::string name;
  if (classes.is_array() && !classes.empty() && classes[0].is_string()) name = classes[0];
  for (const char* headed : {"CausalLM", "ConditionalGeneration", "LMHead"})
    if (name.empty() || name.find(headed) != std::string::npos)
      return cat(". A causal language model has one, or ties it to the embedding: tie_word_embeddings. One without",
                 generic);
  return cat(". By config.json's architectures it is a ", name, ", which has none: such a model", generic);
}

// That everything is there, and the linear layers as large as config.json says.
void check_layers(Plan& plan, const Architecture& architecture, TensorSource& source) {
  std::vector<std::string> names = architecture.outer_tensors();
  for (int64_t block = 0; block < architecture.blocks(); ++block)
    for (std::string& name : architecture.block_tensors(block)) names.push_back(std::move(name));
  const std::string embedding = architecture.embedding_name() + ".weight";
  const std::string head = architecture.head().name + ".weight";
  // A tied head may be stored alone.
  const std::string& tied = plan.tied_head && !source.contains(embedding) ? head : embedding;
  std::vector<std::string> missing;
  for (const std::string& name : names)
    if (!source.contains(name) && !(name == embedding && source.contains(tied))) missing.push_back(name);
  if (!missing.empty()) {
    const size_t others = missing.size() - 1;
    std::string hint;
    if (missing[0] == head) hint = advice_on_heads(plan, architecture.config());
    for (const std::string& stored : source.names())
      if (stored.ends_with("." + missing[0]))
        hint = cat(". It stores ", stored, ": take ", stored.substr(0, stored.size() - missing[0].size()),
                   " off the names");
    plan.problems.push_back(cat(source.location(), ": has no tensor ", missing[0],
                                others ? cat(", nor ", others, " others that ") : ", which ", "config.json asks for",
                                hint));
  }
  for (LayerPlan& layer : plan.layers) {
    const bool is_head = layer.info.name == architecture.head().name;
    const bool is_embedding = layer.info.name == architecture.embedding_name();
    const std::string name = (is_head && plan.tied_head) || is_embedding ? tied : layer.info.name + ".weight";
    if (!source.contains(name)) continue;
    const TensorInfo entry = source.info(name);
    layer.dtype = entry.dtype;
    const std::vector<int64_t> expected = {layer.info.out_features, layer.info.in_features};
    if (entry.shape != expected)
      layer.problems.push_back(cat(entry.file, ": the weight is ", shape_text(entry.shape), ", but config.json says ",
                                   shape_text(expected)));
  }
}

// That what is no layer is as large as config.json says: a run would learn it block by block.
void check_vectors(Plan& plan, const Architecture& architecture, TensorSource& source) {
  std::vector<std::pair<std::string, std::vector<int64_t>>> sizes;
  const auto add_linear = [&](const LinearInfo& linear) {
    sizes.push_back({linear.name + ".bias", {linear.out_features}});
  };
  const auto add_norm = [&](const std::optional<NormInfo>& norm) {
    if (!norm) return;
    const std::vector<int64_t> shape = norm->heads > 1 ? std::vector{norm->heads, norm->size} : std::vector{norm->size};
    for (const char* part : {".weight", ".bias"}) sizes.emplace_back(norm->name + part, shape);
  };
  const auto add_step = [&](const StepInfo& step) {
    for (const auto* norm : {&step.norm_in, &step.norm_mlp, &step.norm_out, &step.norm_sum}) add_norm(*norm);
    if (!step.sum_scale.empty()) sizes.push_back({step.sum_scale, {1}});
    if (const auto& attention = step.attention) {
      for (const auto* norm : {&attention->q_norm, &attention->k_norm, &attention->v_norm}) add_norm(*norm);
      if (!attention->sinks.empty()) sizes.push_back({attention->sinks, {attention->heads}});
    }
    if (const auto& recurrent = step.recurrent)
      for (const std::string* name : {&recurrent->a_log, &recurrent->dt_bias, &recurrent->d})
        if (!name->empty()) sizes.push_back({*name, {recurrent->heads}});
  };
  const DecoderInfo& info = architecture.info();
  if (architecture.has_head()) add_linear(architecture.head());
  for (int64_t block = 0; block < architecture.blocks(); ++block)
    for (const LinearInfo& linear : architecture.block_linears(block)) add_linear(linear);
  for (const BlockInfo& block : info.blocks)
    for (const StepInfo& step : block.steps) add_step(step);
  add_norm(info.embedding_norm);
  add_norm(info.final_norm);
  if (const auto& inputs = info.layer_inputs) {
    const LinearInfo& projection = inputs->projection;
    sizes.push_back({inputs->table + ".weight", {inputs->vocab, projection.out_features}});
    sizes.push_back({projection.name + ".weight", {projection.out_features, projection.in_features}});
    add_norm(inputs->norm);
  }
  std::string first;
  std::vector<std::string> others;
  for (const auto& [name, shape] : sizes) {
    if (!source.contains(name)) continue;
    const TensorInfo entry = source.info(name);
    if (entry.shape == shape) continue;
    if (first.empty())
      first = cat(name, " is ", shape_text(entry.shape), ", but config.json says ", shape_text(shape));
    else
      others.push_back(name);
  }
  if (first.empty()) return;
  const std::string more =
      others.empty() ? "" : cat("; ", first_of(others), others.size() == 1 ? " differs" : " differ", " too");
  plan.problems.push_back(cat(source.location(), ": ", first, more));
}

}  // namespace

void check_tensors(Plan& plan, const Architecture& architecture, TensorSource& source) {
  check_layers(plan, architecture, source);
  check_vectors(plan, architecture, source);
}

}  // namespace roundhouse
