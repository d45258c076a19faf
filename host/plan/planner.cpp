// SPDX-License-Identifier: Apache-2.0
#include "host/plan/planner.h"

#include <algorithm>
#include <map>
#include <set>

#include "host/abi/format_query.h"
#include "host/abi/format_reader.h"
#include "host/abi/format_writer.h"
#include "host/base/error.h"
#include "host/base/stacked_source.h"
#include "host/base/suggest.h"
#include "host/base/words.h"
#include "host/checkpoint/weight_bytes.h"
#include "host/plan/estimate.h"
#include "host/plan/format_facts.h"
#include "host/plan/fused.h"
#include "host/plan/imatrix.h"
#include "host/plan/layer_check.h"
#include "host/plan/plan_text.h"
#include "host/plan/recipe_check.h"
#include "host/plan/scheme_resolver.h"
#include "host/plan/tensor_check.h"

namespace roundhouse {
namespace {

// "'re:.*\\.up_proj' matches 14 layers": an expression that `text` may stand for, a part of a name, a wildcard or an
// expression for a part; "" where none matches.
std::string near_pattern(std::string text, const std::vector<std::string>& names) {
  if (text.starts_with("re:") || text.starts_with("RE:")) text.erase(0, 3);
  if (text.ends_with(".weight")) text.resize(text.size() - 7);
  if (text.empty()) return "";
  const std::string exact = LayerPattern::quoted(text);
  const std::string wildcard = replaced(replaced(exact, "\\*", ".*"), "\\?", ".");
  for (const std::string& expression : {text, wildcard, ".*\\." + exact, exact + "\\..*", ".*" + exact + ".*",
                                        ".*" + text, text + ".*", ".*" + text + ".*"}) {
    try {
      const LayerPattern pattern("re:" + expression);
      const auto matches = [&](const std::string& name) { return pattern.matches(name); };
      if (const auto count = std::count_if(names.begin(), names.end(), matches); count > 0)
        return cat("'", pattern.text(), "' matches ", count, count == 1 ? " layer" : " layers");
    } catch (const Error&) {  // it is no expression
    }
  }
  return "";
}

using nlohmann::json;

bool supports(const DtypeRecord* record, Rounding rounding) {
  if (rounding == Rounding::kTunedSearch) return record->supports & RH_SUPPORTS_TUNED_SEARCH;
  if (rounding == Rounding::kTuned) return record->supports & RH_SUPPORTS_TUNING;
  return rounding == Rounding::kPlain || (record->supports & RH_SUPPORTS_SEARCH);
}

// What the user, else the preset, says.
std::string said_text(const SchemeChoice& choice, const char* key) {
  return choice.said.value(key, choice.assumed.value(key, ""));
}

std::string last_part(const std::string& name) { return name.substr(name.rfind('.') + 1); }

std::set<std::string> known_tensors(const Architecture& architecture) {
  std::set<std::string> names;
  for (std::string& name : architecture.outer_tensors()) names.insert(std::move(name));
  for (int64_t block = 0; block < architecture.blocks(); ++block)
    for (std::string& name : architecture.block_tensors(block)) names.insert(std::move(name));
  return names;
}

class Planner {
 public:
  Planner(const Recipe& recipe, const Architecture& architecture, TensorSource& source, Catalogue& catalogue)
      : architecture_(architecture), source_(source), quantized_(exported_checkpoint(source)), catalogue_(catalogue) {
    plan_.recipe = recipe;
    plan_.block_prefix = architecture.block_prefix();
    plan_.blocks = architecture.blocks();
    if (const ExpertsInfo* const experts = first_experts(architecture.info())) {
      plan_.experts = static_cast<int64_t>(experts->experts.size());
      plan_.experts_used = experts->router.top_k;
    }
    plan_.tied_head = architecture.tied_head();
    plan_.rounds_only = architecture.generic();
    if (plan_.rounds_only) plan_.left = architecture.left();
    const std::vector<std::string> stored = source.names();
    const std::set<std::string> known = known_tensors(architecture);
    std::vector<std::string> unused;
    for (const std::string& name : stored) {
      if (architecture.unused(name)) unused.push_back(name);
      const TensorInfo entry = source.info(name);
      const std::string exported = exported_name(architecture, stored, name);
      if (!exported.empty())
        plan_.tensors.push_back({exported, entry.shape, entry.dtype, !known.contains(exported), part_of(source, name)});
    }
    if (!unused.empty())
      plan_.warn(cat(source.location(), ": stores ", first_of(unused),
                     ", which nothing reads: these blocks have the keys and values of earlier ones; the exports are ",
                     "without, as transformers saves such a model"));
  }

  Plan make() {
    check_formats();
    resolve_schemes();
    add_layers();
    assign();
    check_rules();
    check_tensors(plan_, architecture_, source_);
    load_importance();
    start_without_search();
    for (LayerPlan& layer : plan_.layers) check_layer(layer, plan_.recipe.formats, catalogue_);
    if (plan_.rounds_only) leave_unfit();
    keep_stored();
    if (plan_.rounds_only)
      check_rounding_alone(plan_, architecture_);
    else
      check_calibration(plan_, architecture_);
    note_weights_only(plan_, catalogue_);
    require_no_problems();
    ask_formats();
    while (release_refused()) ask_formats();
    require_no_problems();
    note_stored();
    warn_of_fused(plan_, catalogue_);
    if (std::none_of(plan_.layers.begin(), plan_.layers.end(), [](const LayerPlan& l) { return l.scheme.weight; }))
      plan_.warn("no layer is quantized");
    estimate(plan_, source_, catalogue_, architecture_.state_size());
    if (quantized_) plan_.bytes_before = weight_bytes(plan_.recipe.model);  // not as decoded
    return std::move(plan_);
  }

 private:
  // An entry under `layers:`, resolved.
  struct Rule {
    Scheme scheme;
    bool failed = false;  // its scheme is a problem, told once
    bool matches = false, decides = false;
  };

  void resolve_schemes();
  Scheme resolve(const SchemeChoice& choice);
  void complete(SchemeChoice& choice, const Scheme& scheme) const;
  void check_formats();
  void add_layers();
  void add_layer(const LinearInfo& info, int64_t block);
  void decide(LayerPlan& layer);
  void round_outside(LayerPlan& layer) const;
  void assign();
  void check_rules();
  void load_importance();
  void start_without_search();
  void ask_formats();
  void require_no_problems() const {
    if (std::string problems = describe_problems(plan_); !problems.empty()) throw Error(problems);
  }
  void keep_stored();
  bool release_refused();
  void note_stored();
  const ExportedCheckpoint::Item* stored(const LayerPlan& layer) const;
  bool leave_unfit();

  const Architecture& architecture_;
  TensorSource& source_;
  ExportedCheckpoint* const quantized_;  // the source, where its weights are quantized
  Catalogue& catalogue_;
  Plan plan_;
  std::vector<Rule> rules_;  // beside plan_.recipe.layers
};

// Throws Error with the place of what cannot be resolved.
Scheme Planner::resolve(const SchemeChoice& choice) {
  const Tuning& tuning = plan_.recipe.tuning;
  std::vector<Rounding> wanted = {Rounding::kPlain};
  if (tuning.search) wanted.insert(wanted.begin(), Rounding::kSearch);
  if (tuning.iters > 0) wanted.insert(wanted.begin(), Rounding::kTuned);
  if (tuning.iters > 0 && tuning.algorithm == Tuning::Algorithm::kSignround2)
    wanted.insert(wanted.begin(), Rounding::kTunedSearch);
  try {
    for (const Rounding rounding : wanted) {
      const Scheme scheme = resolve_scheme(catalogue_, choice.said, choice.assumed, rounding);
      // An alias may have another rounding, which then is its own affair.
      if (!scheme.weight || scheme.weight->rounding != rounding ||
          supports(catalogue_.find_dtype(scheme.weight->dtype), rounding))
        return scheme;
      const bool tuned = supports(catalogue_.find_dtype(scheme.weight->dtype), Rounding::kTuned);
      if (rounding == Rounding::kTunedSearch && !tuned) continue;  // told of tuning
      plan_.warn(cat("the data type ", scheme.weight->dtype,
                     rounding == Rounding::kTunedSearch ? " is not tuned from searched scales: as by signround"
                     : rounding == Rounding::kTuned     ? " cannot be tuned"
                                                        : " has no searched rounding"));
    }
  } catch (const Error& e) {
    std::string loaded;
    if (said_text(choice, "data_type").empty()) {
      std::vector<std::string> ids;
      for (const DtypeRecord* record : catalogue_.dtypes()) ids.push_back(record->id);
      loaded = cat(". Data types: ", joined(ids), ids.empty() ? ". " + catalogue_.where_it_looked() : "");
    }
    throw Error(cat(choice.place.text, ": ", e.what(), loaded));
  }
  throw std::logic_error("every data type has plain rounding");
}

// Writes everything out, but keeps the data type's name as it was said: an alias may mean more than the fields show.
void Planner::complete(SchemeChoice& choice, const Scheme& scheme) const {
  json fields = to_json(scheme);
  fields.erase("act_options");
  const std::string weight = said_text(choice, "data_type"), activation = said_text(choice, "act_data_type");
  if (!weight.empty()) fields["data_type"] = weight;
  if (scheme.activation) fields["act_data_type"] = activation.empty() ? weight : activation;
  choice.preset.clear();
  choice.format_options = json::object();
  choice.layers.clear();
  choice.assumed = json::object();
  choice.said = std::move(fields);
}

void Planner::resolve_schemes() {
  SchemeChoice& global = plan_.recipe.scheme;
  try {
    plan_.scheme = resolve(global);
  } catch (const Error& e) {  // no layer can be planned, but all that is known is told
    if (plan_.problems.empty()) throw;
    plan_.problems.insert(plan_.problems.begin(), e.what());
    throw Error(describe_problems(plan_));
  }
  complete(global, plan_.scheme);

  for (LayerRule& rule : plan_.recipe.layers) {
    Rule& resolved = rules_.emplace_back();
    if (rule.action == LayerRule::Action::kKeep) continue;
    try {
      if (rule.action == LayerRule::Action::kReplace) {
        resolved.scheme = resolve(rule.scheme);
        complete(rule.scheme, resolved.scheme);
        continue;
      }
      // The recipe's scheme is as if said here, unless another data type gives its fields another meaning.
      SchemeChoice choice{.assumed = global.said, .said = rule.scheme.said, .place = rule.scheme.place};
      if (!rule.scheme.said.contains("data_type")) {
        choice.said = std::move(choice.assumed);
        choice.assumed = json::object();
        choice.said.update(rule.scheme.said, /*merge_objects=*/true);
      }
      resolved.scheme = resolve(choice);
    } catch (const Error& e) {
      plan_.problems.push_back(e.what());
      resolved.failed = true;
    }
  }
}

void Planner::check_formats() {
  for (FormatChoice& format : plan_.recipe.formats) {
    try {
      catalogue_.format(format.id);
      format.options = catalogue_.format_options(format.id, format.options);
      check_format_options(catalogue_, format);
    } catch (const Error& e) {
      plan_.problems.push_back(cat(format.place.text, ": ", e.what()));
    }
  }
}

void Planner::add_layers() {
  for (int64_t block = 0; block < architecture_.blocks(); ++block)
    for (const LinearInfo& info : architecture_.block_linears(block)) add_layer(info, block);
  for (const LinearInfo& info : architecture_.outer_linears()) add_layer(info, -1);
  if (architecture_.has_head()) add_layer(architecture_.head(), -1);
}

void Planner::add_layer(const LinearInfo& info, int64_t block) {
  LayerPlan& layer = plan_.layers.emplace_back();
  layer.info = info;
  layer.block = block;
  decide(layer);
}

// The first entry that matches. Without one, the head, the embedding, routers and their like stay as they are, and all
// else has the recipe's scheme. A pattern is for routers if it ends with their name, not because it takes in all.
void Planner::decide(LayerPlan& layer) {
  const std::string& name = layer.info.name;
  if (name != architecture_.head().name && name != architecture_.embedding_name() && !layer.info.decides)
    layer.scheme = plan_.scheme;
  for (size_t i = 0; i < rules_.size(); ++i) {
    const LayerRule& rule = plan_.recipe.layers[i];
    if (!rule.match.matches(layer.info.name)) continue;
    if (layer.info.decides && rule.match.is_regex() && !rule.match.text().ends_with(last_part(name))) continue;
    rules_[i].matches = true;
    if (!layer.matched.empty()) continue;
    layer.matched = rule.match.text();
    layer.scheme = rules_[i].scheme;
    rules_[i].decides = true;
    round_outside(layer);
    if (layer.info.name != architecture_.head().name || !plan_.tied_head || rule.action == LayerRule::Action::kKeep)
      continue;
    const std::string tied = cat(layer.info.name, " shares its weight with the embedding ",
                                 architecture_.embedding_name(), ", which is not quantized");
    layer.scheme = {};
    if (rule.match.is_regex())
      plan_.warn(tied + ": it stays as it is");
    else
      layer.problems.push_back(cat(rule.scheme.place.text, ": ", tied, ". Remove this entry, or write scheme: none"));
  }
}

// Tuning works block by block; what lies outside is rounded.
void Planner::round_outside(LayerPlan& layer) const {
  if (layer.block >= 0 || !layer.scheme.weight || !is_tuned(layer.scheme.weight->rounding)) return;
  const bool search =
      plan_.recipe.tuning.search && supports(catalogue_.find_dtype(layer.scheme.weight->dtype), Rounding::kSearch);
  layer.scheme.weight->rounding = search ? Rounding::kSearch : Rounding::kPlain;
}

// What formats want of layers that no entry decides. The embedding is a layer where one of them wants it.
void Planner::assign() {
  struct Wish {
    const FormatChoice* format;
    json fields;
  };
  std::map<std::string, Wish> wishes;  // by layer
  LayerPlan embedding;
  embedding.info = {architecture_.embedding_name(),      "embedding", "", architecture_.vocab_size(),
                    architecture_.info().embedding_size, false};
  const bool has_embedding = !embedding.info.name.empty();
  if (has_embedding) plan_.layers.push_back(embedding);
  json layers{{"data_type", plan_.scheme.weight ? json(plan_.scheme.weight->dtype) : json()},
              {"layers", json::array()}};
  for (const LayerPlan& layer : plan_.layers) {
    if (layer.info.decides) continue;
    layers["layers"].push_back({{"name", layer.info.name},
                                {"role", layer.info.role},
                                {"rows", layer.info.out_features},
                                {"cols", layer.info.in_features}});
  }
  const json facts = architecture_.facts();
  if (has_embedding) plan_.layers.pop_back();
  for (const FormatChoice& format : plan_.recipe.formats) {
    if (!catalogue_.find_format(format.id)) continue;  // told already
    try {
      const json assignment = ask_assignment(catalogue_.format(format.id), layers, facts, format.options);
      for (const auto& [layer, fields] : assignment.items()) {
        const auto [wish, first] = wishes.emplace(layer, Wish{&format, fields});
        if (first || wish->second.fields == fields) continue;
        plan_.problems.push_back(cat("the formats ", wish->second.format->id, " and ", format.id,
                                     " want different data types of ", layer, ": ", wish->second.fields.dump(), ", ",
                                     fields.dump(), ". Write them with a recipe each"));
      }
    } catch (const Error& e) {
      plan_.problems.push_back(cat(format.place.text, ": ", e.what()));
    }
  }
  if (wishes.contains(embedding.info.name)) add_layer(embedding.info, -1);
  std::map<std::string, Scheme> resolved;  // by what was wished
  for (LayerPlan& layer : plan_.layers) {
    const auto found = wishes.find(layer.info.name);
    if (found == wishes.end() || !layer.matched.empty()) continue;
    auto& [format, fields] = found->second;
    const std::string reason = fields.value("reason", "");
    fields.erase("reason");
    layer.assigned = cat(format->id, reason.empty() ? "" : ": ", reason);
    // The recipe's own words for its data type hold where the format wants just that.
    const bool same = plan_.scheme.weight && fields == json{{"data_type", plan_.scheme.weight->dtype}};
    const std::string text = fields.dump();
    if (!resolved.contains(text)) {
      try {
        resolved[text] = same ? plan_.scheme : resolve({.said = fields, .place = format->place});
      } catch (const Error& e) {
        plan_.problems.push_back(e.what());
        return;
      }
    }
    layer.scheme = resolved[text];
    round_outside(layer);
  }
}

void Planner::check_rules() {
  std::vector<std::string> names;
  for (const LayerPlan& layer : plan_.layers) names.push_back(layer.info.name);
  for (size_t i = 0; i < rules_.size(); ++i) {
    const LayerRule& rule = plan_.recipe.layers[i];
    const std::string& text = rule.match.text();
    if (rules_[i].matches && !rules_[i].decides)
      plan_.warn(
          cat(rule.scheme.place.text, ": all layers that \"", text, "\" matches are decided by entries before it"));
    if (rules_[i].matches) continue;
    const std::string found = near_pattern(text, names);
    if (rule.match.is_regex()) {
      plan_.warn(cat(rule.scheme.place.text, ": \"", text, "\" matches no layer",
                     found.empty() ? "" : cat("; an expression has to match the whole of a name: ", found)));
    } else {
      const std::string meant = suggest(text, names);
      plan_.problems.push_back(cat(rule.scheme.place.text, ": the model has no linear layer ", text, meant,
                                   found.empty() || !meant.empty() ? "" : cat("; for a part of names: ", found)));
    }
  }
}

// A quantized layer that is left alone keeps what it is packed from, where all formats hold that. All other quantized
// weights are decoded.
void Planner::keep_stored() {
  if (!quantized_) return;
  for (LayerPlan& layer : plan_.layers) {
    const ExportedCheckpoint::Item* item = stored(layer);
    if (!item || !item->encoding || layer.scheme.weight) continue;
    LayerPlan packed = layer;
    packed.encoding = std::make_shared<EncodingCopy>(*item->encoding);
    packed.encoded_bytes = packed_bytes(*item->encoding, layer.info, 8);
    if (item->activation_encoding)
      packed.activation_encoding = std::make_shared<EncodingCopy>(*item->activation_encoding);
    const auto refuses = [&](const FormatChoice& format) {
      return !catalogue_.find_format(format.id) ||
             !format_refusal(catalogue_, format.id, format.options, packed).empty();
    };
    if (std::none_of(plan_.recipe.formats.begin(), plan_.recipe.formats.end(), refuses)) layer = std::move(packed);
  }
}

// Decodes the layers of keep_stored() that a format refuses when it sees the whole plan; those of a generic architecture
// stay as they are. Returns whether there were any.
bool Planner::release_refused() {
  bool any = false;
  for (LayerPlan& layer : plan_.layers) {
    if (!layer.kept() || layer.problems.empty()) continue;
    layer.encoding = layer.activation_encoding = nullptr;
    layer.problems.clear();
    layer.unfit = false;
    any = true;
  }
  if (plan_.rounds_only && leave_unfit()) any = true;
  if (any) {  // they are asked again
    plan_.formats.clear();
    plan_.problems.clear();
  }
  return any;
}

void Planner::note_stored() {
  if (!quantized_) return;
  size_t decoded = 0;
  std::vector<std::string> kept, written;
  for (const LayerPlan& layer : plan_.layers) {
    if (!stored(layer)) continue;
    if (layer.scheme.weight)
      ++decoded;
    else
      (layer.encoding ? kept : written).push_back(layer.info.name);
  }
  std::string text = cat("the source is quantized: ", decoded, decoded == 1 ? " layer is" : " layers are",
                         " decoded to float32 and quantized again");
  if (!kept.empty()) text += cat("; packed as they are: ", first_of(kept));
  if (!written.empty()) text += cat("; written as float32: ", first_of(written));
  if (decoded || !kept.empty() || !written.empty()) plan_.warn(text);
}

// What the source holds of a quantized layer; nullptr: the layer is not quantized there.
const ExportedCheckpoint::Item* Planner::stored(const LayerPlan& layer) const {
  const std::string weight = layer.info.name + ".weight";
  if (!quantized_ || !quantized_->contains(weight)) return nullptr;
  // Engines read none of the experts packed that they have in transposed tensors of all.
  if (const auto part = part_of(source_, weight); part && part->transposed) return nullptr;
  const ExportedCheckpoint::Item& item = quantized_->item(weight);
  return item.quantized ? &item : nullptr;
}

void Planner::load_importance() {
  if (!plan_.recipe.imatrix.file) return;
  const auto searched = [](const LayerPlan& l) { return l.scheme.weight && is_searched(l.scheme.weight->rounding); };
  if (std::none_of(plan_.layers.begin(), plan_.layers.end(), searched))
    plan_.warn(
        "imatrix.file is not used, because no layer is searched: set tuning.algorithm to signround2, or tuning.iters "
        "to 0 and tuning.search to true, and a data type that can search");
  try {
    read_importance(plan_, architecture_);
  } catch (const Error& e) {
    plan_.problems.push_back(cat("imatrix.file: ", e.what()));
  }
}

// Layers whose data type cannot start their tuning from a search, but tune them, are tuned so.
void Planner::start_without_search() {
  std::map<std::string, std::vector<std::string>> layers;  // by the reason
  for (LayerPlan& layer : plan_.layers) {
    if (!layer.scheme.weight || layer.scheme.weight->rounding != Rounding::kTunedSearch) continue;
    const std::string why = dtype_refusal(catalogue_, layer);
    if (why.empty()) continue;
    layer.scheme.weight->rounding = Rounding::kTuned;
    if (dtype_refusal(catalogue_, layer).empty())
      layers[without_name(why, layer.info.name)].push_back(layer.info.name);
    else
      layer.scheme.weight->rounding = Rounding::kTunedSearch;
  }
  for (const auto& [why, names] : layers)
    plan_.warn(cat(first_of(names), names.size() == 1 ? " is" : " are", " tuned as by signround: ", why));
}

// Each format sees all that it will get.
void Planner::ask_formats() {
  const json facts = architecture_.facts();
  for (const FormatChoice& format : plan_.recipe.formats) {
    FormatPlan& plan = plan_.formats.emplace_back();
    plan.id = format.id;
    try {
      plan.omitted = ask_format(plan_, format, catalogue_.format(format.id), facts);
      plan.resumes = FormatWriter::resumes(catalogue_.format(format.id));
    } catch (const Error& e) {
      plan_.problems.push_back(cat(format.place.text, ": ", e.what()));
    }
  }
}

// Layers of a generic architecture that cannot be quantized as the recipe says, where others can, stay as they are.
// Returns whether there are any.
bool Planner::leave_unfit() {
  const auto quantized = [](const LayerPlan& layer) { return layer.encoding && layer.problems.empty(); };
  if (std::none_of(plan_.layers.begin(), plan_.layers.end(), quantized)) return false;
  std::map<std::string, std::vector<std::string>> unfit;  // by what is told of them
  for (LayerPlan& layer : plan_.layers) {
    if (layer.problems.empty() || !layer.matched.empty()) continue;
    unfit[without_name(layer.problems.front(), layer.info.name)].push_back(layer.info.name);
    layer.scheme = {};
    layer.encoding = layer.activation_encoding = nullptr;
    layer.encoded_bytes = 0;
    layer.calibrated_input = layer.unfit = false;
    layer.problems.clear();
  }
  for (const auto& [problem, names] : unfit)
    plan_.warn(cat(names[0],
                   names.size() > 1 ? cat(" and ", names.size() - 1, " others stay as they are") : " stays as it is",
                   ": ", problem));
  return !unfit.empty();
}

}  // namespace

Plan make_plan(const Recipe& recipe, const Architecture& architecture, TensorSource& source, Catalogue& catalogue) {
  return Planner(recipe, architecture, source, catalogue).make();
}

Plan make_plan(const Recipe& recipe, const Original& original, Catalogue& catalogue) {
  Plan plan = make_plan(recipe, original.architecture, *original.tensors, catalogue);
  plan.warnings.insert(plan.warnings.begin(), original.warnings.begin(), original.warnings.end());
  return plan;
}

}  // namespace roundhouse
