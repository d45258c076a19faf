// SPDX-License-Identifier: Apache-2.0
#include "host/plan/format_facts.h"

#include <cassert>
#include <map>

#include "host/abi/format_query.h"
#include "host/base/error.h"
#include "host/base/words.h"

namespace roundhouse {

using nlohmann::json;

FormatLayer format_layer(const LayerPlan& layer) {
  assert(layer.encoding);
  return {layer.info.name, layer.info.role, layer.info.out_features,   layer.info.in_features,
          layer.dtype,     layer.encoding,  layer.activation_encoding, layer.info.stack};
}

std::unique_ptr<PlanView> plan_view(const Plan& plan, const json& options, const json& architecture) {
  std::map<std::string, const LayerPlan*> layers;  // by weight
  for (const LayerPlan& layer : plan.layers)
    if (layer.encoding) layers[layer.info.name + ".weight"] = &layer;
  auto view = std::make_unique<PlanView>(options, architecture);
  for (const TensorPlan& tensor : plan.tensors) {
    const auto layer = layers.find(tensor.name);
    view->add(tensor.name, tensor.shape, tensor.dtype, tensor.extra,
              layer == layers.end() ? nullptr : std::make_unique<FormatLayer>(format_layer(*layer->second)),
              tensor.part);
  }
  return view;
}

std::vector<std::pair<std::string, std::string>> ask_format(Plan& plan, const FormatChoice& format,
                                                            const LoadedFormat& loaded, const json& architecture) {
  const std::unique_ptr<PlanView> view = plan_view(plan, format.options, architecture);
  const std::vector<TensorAnswer> answers = ask_plan(loaded, *view->get());
  std::vector<std::pair<std::string, std::string>> omitted;
  std::map<std::string, std::string> refused;
  std::map<std::string, std::vector<std::string>> warned;  // by the reason
  for (size_t i = 0; i < answers.size(); ++i) {
    if (answers[i].what <= RH_TENSOR_COPIED && !answers[i].reason.empty())
      warned[answers[i].reason].push_back(plan.tensors[i].name);
    if (answers[i].what == RH_TENSOR_OMITTED) omitted.emplace_back(plan.tensors[i].name, answers[i].reason);
    if (answers[i].what == RH_TENSOR_REFUSED) refused[plan.tensors[i].name] = answers[i].reason;
  }
  for (const auto& [reason, names] : warned)
    plan.warn(cat("the format ", format.id, ": ", reason, " (", first_of(names), ")"));
  for (LayerPlan& layer : plan.layers) {
    const auto found = refused.find(layer.info.name + ".weight");
    if (found == refused.end()) continue;
    layer.problems.push_back(cat("the format ", format.id, ": ", found->second));
    layer.unfit = layer.scheme.weight.has_value();
    refused.erase(found);
  }
  std::map<std::string, std::vector<std::string>> others;  // by the reason
  for (const auto& [name, reason] : refused) others[reason].push_back(name);
  for (const auto& [reason, names] : others)
    plan.problems.push_back(cat(format.place.text, format.place.text.empty() ? "" : ": ", "the format ", format.id,
                                " cannot store ", first_of(names), ": ", reason));
  return omitted;
}

json plan_facts(const Plan& plan) {
  const auto name = [](Rounding rounding) {
    switch (rounding) {
      case Rounding::kTunedSearch:
        return "tuned search";
      case Rounding::kTuned:
        return "tuned";
      case Rounding::kSearch:
        return "search";
      case Rounding::kPlain:
        break;
    }
    return "plain";
  };
  json layers = json::object();
  for (const LayerPlan& layer : plan.layers)
    if (const auto& weight = layer.scheme.weight)
      layers[layer.info.name] = {{"data_type", weight->dtype}, {"rounding", name(weight->rounding)}};
  return {{"data_type", plan.scheme.weight ? json(plan.scheme.weight->dtype) : json()}, {"layers", layers}};
}

json tuning_facts(const Recipe& recipe) {
  const Calibration& calibration = recipe.calibration;
  const Tuning& tuning = recipe.tuning;
  const int bits = recipe.scheme.said.value("bits", 16);  // the reference, too, notes the rate of the recipe's scheme
  return {{"iters", tuning.iters},
          {"lr", learning_rate(tuning, bits)},
          {"minmax_lr", minmax_learning_rate(tuning, bits)},
          {"samples", calibration.samples},
          {"seqlen", calibration.seqlen},
          {"batch_size", calibration.batch_size},
          {"gradient_accumulation", tuning.gradient_accumulation},
          {"quantized_input", tuning.quantized_input},
          {"search", tuning.search},
          {"seed", calibration.seed}};
}

}  // namespace roundhouse
