// SPDX-License-Identifier: Apache-2.0
#include "host/export/convert.h"

#include <algorithm>
#include <cassert>
#include <map>
#include <set>

#include "host/base/error.h"
#include "host/base/log.h"
#include "host/base/stacked_source.h"
#include "host/base/words.h"
#include "host/checkpoint/output.h"
#include "host/export/exporter.h"
#include "host/export/stored_layer.h"
#include "host/plan/format_facts.h"
#include "host/plan/layer_check.h"
#include "host/plan/plan_text.h"

namespace roundhouse {
namespace {

using nlohmann::json;

constexpr std::string_view kWeight = ".weight";

// The layer of a quantized weight.
std::string layer_of(const std::string& weight) {
  return weight.ends_with(kWeight) ? weight.substr(0, weight.size() - kWeight.size()) : weight;
}

// A plan of what a checkpoint holds.
class Planner {
 public:
  // Throws Error with all that the formats refuse.
  Planner(const Recipe& recipe, const Architecture& architecture, TensorSource& tensors,
          const ExportedCheckpoint& source, Catalogue& catalogue)
      : tensors_(tensors), source_(source), catalogue_(catalogue) {
    plan_.recipe = recipe;
    plan_.block_prefix = architecture.block_prefix();
    plan_.blocks = architecture.blocks();
    plan_.tied_head = architecture.tied_head();
    for (int64_t block = 0; block < architecture.blocks(); ++block)
      for (const LinearInfo& info : architecture.block_linears(block)) add_known(info, block);
    for (const LinearInfo& info : architecture.outer_linears()) add_known(info, -1);
    known_.insert(architecture.head().name);
    for (const std::string& name : source.names())
      if (source.item(name).quantized && !known_.contains(layer_of(name))) add_other(name, architecture);
    if (architecture.has_head()) add_known(architecture.head(), -1);  // the last, as in a run's plan
    add_tensors(architecture);
    if (std::none_of(plan_.layers.begin(), plan_.layers.end(),
                     [](const LayerPlan& l) { return l.encoding != nullptr; }))
      throw Error(cat(source.location(), " is not quantized: use `roundhouse run`"));
    require_no_problems();
    for (const FormatChoice& format : recipe.formats) {
      FormatPlan& asked = plan_.formats.emplace_back();
      asked.id = format.id;
      asked.omitted = ask_format(plan_, format, catalogue.format(format.id), architecture.facts());
    }
    require_no_problems();
  }
  Plan take() { return std::move(plan_); }

 private:
  void add_known(const LinearInfo& info, int64_t block) {
    known_.insert(info.name);
    LayerPlan& layer = plan_.layers.emplace_back();
    layer.info = info;
    layer.block = block;
    const std::string weight = info.name + std::string(kWeight);
    if (!tensors_.contains(weight)) return;
    layer.dtype = tensors_.info(weight).dtype;
    if (!source_.contains(weight)) return;  // of a tensor of all experts
    const ExportedCheckpoint::Item& item = source_.item(weight);
    if (!item.quantized) return;
    if (item.shape != std::vector<int64_t>{info.out_features, info.in_features})
      throw Error(cat(weight, " in ", source_.location(), " is ", shape_text(item.shape), ", but config.json says ",
                      shape_text({info.out_features, info.in_features})));
    read_encoding(layer, item);
  }

  // The embedding, or a layer that the architecture does not know.
  void add_other(const std::string& weight, const Architecture& architecture) {
    const ExportedCheckpoint::Item& item = source_.item(weight);
    const std::string name = layer_of(weight);
    if (item.shape.size() != 2 || name == weight)
      throw Error(cat(weight, " in ", source_.location(), " is no linear layer's weight: it cannot be repacked"));
    add_known({name, name == architecture.embedding_name() ? "embedding" : "", "", item.shape[0], item.shape[1], false},
              -1);
  }

  void read_encoding(LayerPlan& layer, const ExportedCheckpoint::Item& item) {
    if (!item.encoding)
      throw Error(cat(layer.info.name, ": the format of ", source_.location(),
                      " does not say what it is packed from: it cannot be repacked"));
    try {
      layer.encoding = std::make_shared<EncodingCopy>(*item.encoding);
      if (item.activation_encoding)
        layer.activation_encoding = std::make_shared<EncodingCopy>(*item.activation_encoding);
    } catch (const json::exception& e) {
      throw Error(cat(layer.info.name, " in ", source_.location(), ": what its format says of it: ", e.what()));
    }
    for (const FormatChoice& format : plan_.recipe.formats) {
      const std::string why = format_refusal(catalogue_, format.id, format.options, layer);
      if (why.empty()) continue;
      layer.problems.push_back(cat(why, ". Formats that can: ", joined(formats_that_could(catalogue_, layer))));
    }
  }

  void require_no_problems() const {
    const std::string problems = describe_problems(plan_, "this checkpoint cannot be repacked so:");
    if (!problems.empty()) throw Error(problems);
  }

  void add_tensors(const Architecture& architecture) {
    const std::vector<std::string> names = tensors_.names();
    for (const std::string& name : names) {
      const TensorInfo info = tensors_.info(name);
      const bool quantized = source_.contains(name) && source_.item(name).quantized;
      const std::string exported = quantized ? name : exported_name(architecture, names, name);
      if (!exported.empty())
        plan_.tensors.push_back({exported, info.shape, info.dtype, false, part_of(tensors_, name)});
    }
  }

  TensorSource& tensors_;  // of `source_`, with what is stored of all experts as each one's
  const ExportedCheckpoint& source_;
  Catalogue& catalogue_;
  Plan plan_;
  std::set<std::string> known_;
};

// Formats that let the reader decode drop what is done to inputs.
void warn_of_dropped_inputs(const Plan& plan, Catalogue& catalogue) {
  for (const FormatChoice& format : plan.recipe.formats) {
    const auto& packs = catalogue.find_format(format.id)->encodings;
    const auto drops = [&](const LayerPlan& l) { return l.activation_encoding && !contains(packs, l.encoding_id()); };
    if (std::any_of(plan.layers.begin(), plan.layers.end(), drops))
      log::warning(cat("the format ", format.id,
                       " keeps weights alone: engines that load it do not quantize activations, as the source's do"));
  }
}

}  // namespace

void take_recorded_tuning(const ExportedCheckpoint& source, Recipe& recipe) {
  recipe.tuning.iters = 0;
  const json tuning = source.facts().value("tuning", json::object());
  const auto take = [&](const char* key, auto& to) {
    const auto found = tuning.find(key);
    if (found != tuning.end() && found->is_number()) to = found->get<double>();
  };
  take("iters", recipe.tuning.iters);
  take("lr", recipe.tuning.lr);
  take("minmax_lr", recipe.tuning.minmax_lr);
  take("gradient_accumulation", recipe.tuning.gradient_accumulation);
  take("samples", recipe.calibration.samples);
  take("seqlen", recipe.calibration.seqlen);
  take("batch_size", recipe.calibration.batch_size);
  take("seed", recipe.calibration.seed);
  const auto quantized_input = tuning.find("quantized_input");
  if (quantized_input != tuning.end() && quantized_input->is_boolean())
    recipe.tuning.quantized_input = quantized_input->get<bool>();
}

Fingerprints convert(const Recipe& recipe, const Architecture& architecture, TensorSource& tensors,
                     const std::filesystem::path& files, Catalogue& catalogue, bool overwrite) {
  ExportedCheckpoint* const source = exported_checkpoint(tensors);
  assert(source);
  const Plan plan = Planner(recipe, architecture, tensors, *source, catalogue).take();
  std::map<std::string, const LayerPlan*> layers;  // the quantized ones, by weight
  std::set<std::string> biases;
  for (const LayerPlan& layer : plan.layers) {
    if (!layer.encoding) continue;
    layers[layer.info.name + std::string(kWeight)] = &layer;
    biases.insert(layer.info.name + ".bias");
  }
  warn_of_dropped_inputs(plan, catalogue);

  OutputFolder output(recipe.output, overwrite);
  Exporter exporter(catalogue, plan, architecture, files, output);
  const std::vector<std::string> names = tensors.names();
  for (const std::string& name : names) {
    if (const auto found = layers.find(name); found != layers.end()) {
      with_stored_layer(*found->second, *source, tensors, [&](const EncodedLayer& layer) { exporter.layer(layer); });
    } else if (!biases.contains(name)) {
      const std::string exported = exported_name(architecture, names, name);
      if (!exported.empty()) exporter.tensor(exported, tensors.load(name));
    }
  }
  return exporter.finish();
}

}  // namespace roundhouse
