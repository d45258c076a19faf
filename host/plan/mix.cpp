// SPDX-License-Identifier: Apache-2.0
#include "host/plan/mix.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <set>
#include <unordered_map>
#include <utility>

#include "host/base/error.h"
#include "host/base/name_numbers.h"
#include "host/base/words.h"
#include "host/plan/estimate.h"
#include "host/plan/fused.h"
#include "host/plan/passes.h"
#include "host/plan/planner.h"
#include "host/plan/recipe_check.h"
#include "host/report/table.h"

namespace roundhouse {
namespace {

constexpr size_t kCurvePoints = 65;  // of a plot
constexpr int64_t kTokens = 16384;   // ranks of layers no longer change beyond
constexpr size_t kLeastSamples = 8;  // nor beyond these, however long they are

uint64_t stored_bytes(const LayerPlan& layer) {
  return layer.encoding ? layer.encoded_bytes
                        : bytes_of(layer.dtype, {layer.info.out_features, layer.info.in_features});
}

// The formats of a plan that store its layers packed.
std::vector<const FormatPlan*> packing_formats(const Plan& plan, const Catalogue& catalogue) {
  std::vector<const FormatPlan*> packing;
  for (const FormatPlan& format : plan.formats) {
    const std::vector<std::string>& encodings = catalogue.find_format(format.id)->encodings;
    if (std::any_of(plan.layers.begin(), plan.layers.end(), [&](const LayerPlan& layer) {
          return layer.scheme.weight && contains(encodings, layer.encoding_id());
        }))
      packing.push_back(&format);
  }
  return packing;
}

// Of the largest export; 0: no format packs.
uint64_t largest_export(const Plan& plan, const Catalogue& catalogue) {
  uint64_t bytes = 0;
  for (const FormatPlan* format : packing_formats(plan, catalogue)) bytes = std::max(bytes, format->bytes_estimate);
  return bytes;
}

// Layers that get the same scheme: those that an engine fuses, and all experts of a stack with what is fused to them.
class Sets {
 public:
  void join(const std::string& a, const std::string& b) { parents_[root(a)] = root(b); }
  std::string root(const std::string& name) {
    std::string at = name;
    for (auto parent = parents_.find(at); parent != parents_.end() && parent->second != at; parent = parents_.find(at))
      at = parent->second;
    return at;
  }

 private:
  std::unordered_map<std::string, std::string> parents_;
};

// Without those that an entry of the recipe decides, and those that every scheme leaves as they are.
std::vector<MixGroup> groups_of(const std::vector<std::shared_ptr<const Plan>>& plans, const Catalogue& catalogue) {
  const std::vector<LayerPlan>& layers = plans[0]->layers;
  Sets sets;
  for (const auto& members : fused_layers(*plans[0], catalogue))
    for (const LayerPlan* layer : members) sets.join(layer->info.name, members[0]->info.name);
  for (const LayerPlan& layer : layers)
    if (layer.info.stack) sets.join(layer.info.name, "stack " + layer.info.stack->name);
  std::vector<MixGroup> groups;
  std::unordered_map<std::string, size_t> places;  // by root
  for (size_t i = 0; i < layers.size(); ++i) {
    if (layers[i].block < 0 || layers[i].info.decides) continue;
    const auto layer_of = [i](const auto& plan) -> const LayerPlan& { return plan->layers[i]; };
    if (std::any_of(plans.begin(), plans.end(), [&](const auto& plan) { return !layer_of(plan).matched.empty(); }) ||
        std::none_of(plans.begin(), plans.end(), [&](const auto& plan) { return layer_of(plan).scheme.weight; }))
      continue;
    const auto [at, first] = places.emplace(sets.root(layers[i].info.name), groups.size());
    if (first) groups.push_back({{}, std::vector<uint64_t>(plans.size())});
    MixGroup& group = groups[at->second];
    group.layers.push_back(i);
    for (size_t scheme = 0; scheme < plans.size(); ++scheme)
      group.bytes[scheme] += stored_bytes(layer_of(plans[scheme]));
  }
  return groups;
}

// Entries under `layers:` that give the layers what a plan with another scheme for all gives them.
class Entries {
 public:
  explicit Entries(const Plan& base) : base_(base) {}

  void add(size_t layer, const Plan& plan) {
    const LayerPlan &wanted = plan.layers[layer], &usual = base_.layers[layer];
    if (wanted.scheme == usual.scheme) return;
    nlohmann::json fields = plan.recipe.scheme.said;  // a name may mean more than the fields show
    if (!wanted.assigned.empty()) {
      fields = to_json(wanted.scheme);
      fields.erase("act_options");
    }
    const size_t block = cat(base_.block_prefix, ".", wanted.block).size();
    const auto key = std::pair(fields.dump(), within(wanted.info.name.substr(block)));
    const auto [at, first] = places_.emplace(key, entries_.size());
    if (first) entries_.push_back({std::move(fields), key.second, {}});
    entries_[at->second].blocks.insert(wanted.block);
  }

  std::vector<LayerRule> rules() const {
    std::vector<LayerRule> rules;
    std::map<std::pair<std::string, std::set<int64_t>>, std::vector<std::string>> alike;  // by fields and blocks
    for (const Entry& entry : entries_) alike[{entry.fields.dump(), entry.blocks}].push_back(entry.within);
    for (const auto& [key, within] : alike) {
      const auto& [fields, blocks] = key;
      std::vector<std::string> numbers;
      for (const int64_t block : blocks) numbers.push_back(std::to_string(block));
      LayerRule rule{.match = LayerPattern(
                         cat("re:", LayerPattern::quoted(base_.block_prefix + "."), one_of(numbers), one_of(within))),
                     .action = LayerRule::Action::kReplace};
      rule.scheme.said = nlohmann::json::parse(fields);
      rule.scheme.place = {"the mix"};
      rules.push_back(std::move(rule));
    }
    return rules;
  }

 private:
  struct Entry {
    nlohmann::json fields;
    std::string within;  // the block, as an expression
    std::set<int64_t> blocks;
  };

  static std::string one_of(const std::vector<std::string>& texts) {
    std::string all;
    for (const std::string& text : texts) all += (all.empty() ? "" : "|") + text;
    return texts.size() > 1 ? "(" + all + ")" : all;
  }

  // Experts of a stack move together: their numbers do not matter.
  static std::string within(const std::string& name) {
    std::string expression;
    size_t done = 0;
    for (const NameNumber& number : numbers_in(name)) {
      expression += LayerPattern::quoted(name.substr(done, number.begin - done)) + "\\d+";
      done = number.end;
    }
    return expression + LayerPattern::quoted(name.substr(done));
  }

  const Plan& base_;
  std::vector<Entry> entries_;
  std::map<std::pair<std::string, std::string>, size_t> places_;  // by fields and place in the block
};

// The recipe in which each group has its scheme.
Recipe chosen_recipe(const MixPlan& mix, const std::vector<size_t>& choice) {
  const Plan& base = *mix.plans[mix.base];
  Entries entries(base);
  for (size_t i = 0; i < mix.groups.size(); ++i)
    for (const size_t layer : mix.groups[i].layers) entries.add(layer, *mix.plans[choice[i]]);
  Recipe recipe = base.recipe;
  for (LayerRule& rule : entries.rules()) recipe.layers.push_back(std::move(rule));
  return recipe;
}

double weights_of(const MixPlan& mix) {
  double weights = 0;
  for (const MixGroup& group : mix.groups)
    for (const size_t layer : group.layers) {
      const LinearInfo& info = mix.plans[0]->layers[layer].info;
      weights += static_cast<double>(info.out_features) * static_cast<double>(info.in_features);
    }
  return weights;
}

// The target in bytes of the groups.
uint64_t budget_of(const Mix& wanted, const MixPlan& mix) {
  if (wanted.bytes)
    return static_cast<uint64_t>(*wanted.bytes) - std::min(mix.rest, static_cast<uint64_t>(*wanted.bytes));
  return static_cast<uint64_t>(std::floor(*wanted.bits * weights_of(mix) / 8));
}

uint64_t group_bytes(const MixPlan& mix, size_t scheme) {
  uint64_t bytes = 0;
  for (const MixGroup& group : mix.groups) bytes += group.bytes[scheme];
  return bytes;
}

// Whatever is outside the groups is as with the largest scheme that alone meets the target, else the smallest.
void choose_base(const Mix& wanted, MixPlan& mix, const Catalogue& catalogue) {
  std::vector<size_t> by_size(mix.plans.size());
  for (size_t i = 0; i < by_size.size(); ++i) by_size[i] = i;
  std::stable_sort(by_size.begin(), by_size.end(), [&](size_t a, size_t b) {
    return std::pair(mix.schemes[a].alone.bytes, group_bytes(mix, a)) <
           std::pair(mix.schemes[b].alone.bytes, group_bytes(mix, b));
  });
  for (size_t i = by_size.size(); i-- > 0;) {
    mix.base = by_size[i];
    const uint64_t largest = largest_export(*mix.plans[mix.base], catalogue), groups = group_bytes(mix, mix.base);
    mix.rest = largest - std::min(largest, groups);
    mix.budget = budget_of(wanted, mix);
    if (groups <= mix.budget) break;
  }
}

std::string in_bits(const MixPlan& mix, const Mix& wanted, uint64_t bytes) {
  return wanted.bits ? cat(format_number(8 * static_cast<double>(bytes) / weights_of(mix), 2), " bits")
                     : format_bytes(mix.rest + bytes);
}

// The name of a preset, or the scheme in a few words.
std::string name_of(const SchemeChoice& choice, const Plan& plan) {
  return choice.said.empty() ? choice.preset : scheme_text(plan.scheme);
}

Plan plan_mix(const Recipe& recipe, const Architecture& architecture, TensorSource& source, Catalogue& catalogue) {
  const Mix& wanted = *recipe.mix;
  const auto fail = [&](const auto&... words) { throw Error(cat(wanted.place.text, ": ", words...)); };
  if (architecture.generic())
    fail("a mix is chosen by what each scheme costs where the blocks are computed, and the architecture ",
         architecture.family(), " computes none: name one scheme, and exceptions under `layers`");
  if (recipe.calibration.data.empty())
    fail(
        "calibration.data is missing: what each scheme of a mix costs is measured on texts (.txt, .json, .jsonl or "
        ".csv)");
  auto mix = std::make_shared<MixPlan>();
  mix->of_bytes = wanted.bytes.has_value();
  mix->target = wanted.bytes ? format_bytes(static_cast<uint64_t>(*wanted.bytes)) : target_text(wanted);
  for (size_t i = 0; i < wanted.schemes.size(); ++i) {
    const SchemeChoice& scheme = wanted.schemes[i];
    try {
      mix->plans.push_back(
          std::make_shared<const Plan>(make_plan(with_scheme(recipe, i), architecture, source, catalogue)));
    } catch (const Error& e) {
      throw Error(cat(scheme.place.text, ": with this scheme of the mix for all layers, ", e.what()));
    }
    const Plan& plan = *mix->plans.back();
    mix->schemes.push_back({name_of(scheme, plan), {largest_export(plan, catalogue), 0}});
  }
  mix->groups = groups_of(mix->plans, catalogue);
  if (mix->groups.empty())
    fail(
        "no layer is left to the mix: entries under `layers`, of the recipe or of a preset, or the formats, decide "
        "all");
  for (const MixScheme& scheme : mix->schemes)
    if (wanted.bytes && scheme.alone.bytes == 0)
      fail("no format of the recipe stores packed weights of ", scheme.name,
           ", so that the size of an export is not known: give the target in bits, or leave that scheme out");
  choose_base(wanted, *mix, catalogue);

  uint64_t least = 0, most = 0;
  for (const MixGroup& group : mix->groups) {
    least += *std::min_element(group.bytes.begin(), group.bytes.end());
    most += *std::max_element(group.bytes.begin(), group.bytes.end());
  }
  if (mix->budget < least || (wanted.bytes && static_cast<uint64_t>(*wanted.bytes) < mix->rest))
    fail("the target ", mix->target, " is less than the smallest of the mix, ", in_bits(*mix, wanted, least),
         ": raise it, or add a smaller scheme");
  std::vector<size_t> all(mix->groups.size());  // every scheme somewhere
  for (size_t i = 0; i < all.size(); ++i) all[i] = i % mix->plans.size();
  try {
    make_plan(chosen_recipe(*mix, all), architecture, source, catalogue);
  } catch (const Error& e) {
    fail("the schemes of the mix cannot stand side by side: ", e.what());
  }

  Plan plan = *mix->plans[mix->base];
  for (const FormatPlan* format : packing_formats(plan, catalogue)) mix->packing.push_back(format->id);
  check_seqlen(plan, architecture);
  if (!plan.problems.empty()) throw Error(plan.problems.front());
  const size_t samples =
      sensitivity_samples(static_cast<size_t>(recipe.calibration.samples), recipe.calibration.seqlen);
  mix->activation_bytes =
      hidden_state_bytes(recipe, static_cast<int64_t>(samples), architecture.state_size(), architecture.blocks() + 1);
  if (std::any_of(mix->plans.begin(), mix->plans.end(),
                  [&](const auto& other) { return other->scheme.activation != plan.scheme.activation; }))
    plan.warnings.push_back(cat(wanted.place.text,
                                ": the schemes of the mix treat the inputs of layers differently, and "
                                "what that costs is not counted: only weights are"));
  if (mix->budget >= most)
    plan.warnings.push_back(cat(wanted.place.text, ": the target ", mix->target,
                                " is more than the largest of the mix, ", in_bits(*mix, wanted, most), ", needs"));
  plan.mix = std::move(mix);
  return plan;
}

}  // namespace

Plan plan_recipe(const Recipe& recipe, const Architecture& architecture, TensorSource& source, Catalogue& catalogue) {
  return recipe.mix ? plan_mix(recipe, architecture, source, catalogue)
                    : make_plan(recipe, architecture, source, catalogue);
}

Plan plan_recipe(const Recipe& recipe, const Original& original, Catalogue& catalogue,
                 const std::filesystem::path& default_texts) {
  if (recipe.calibration.data.empty() && !default_texts.empty()) {
    Recipe with_texts = recipe;
    with_texts.calibration.data = {{default_texts, {}}};
    with_texts.calibration.concatenate = true;
    Plan plan = plan_recipe(with_texts, original, catalogue);
    if (passes(plan).any() || plan.mix) {
      plan.warn(
          "calibration.data is not given: the texts that ship with the program stand in for it, packed; texts of the "
          "kind "
          "that the model is for make a better one");
      return plan;
    }
  }
  Plan plan = plan_recipe(recipe, original.architecture, *original.tensors, catalogue);
  plan.warnings.insert(plan.warnings.begin(), original.warnings.begin(), original.warnings.end());
  return plan;
}

size_t sensitivity_samples(size_t samples, int64_t seqlen) {
  return std::min(samples, std::max(kLeastSamples, static_cast<size_t>(kTokens / seqlen)));
}

Plan choose_schemes(const Plan& open, const Sensitivities& sensitivities, const Original& original,
                    Catalogue& catalogue, uint64_t beyond) {
  MixPlan mix = *open.mix;
  mix.rest += beyond;
  if (open.mix->of_bytes) mix.budget -= std::min(mix.budget, beyond);
  std::vector<std::vector<SizedLoss>> options;
  for (const MixGroup& group : mix.groups) {
    std::vector<SizedLoss>& of_group = options.emplace_back();
    for (size_t scheme = 0; scheme < mix.plans.size(); ++scheme) {
      double loss = 0;
      for (const size_t layer : group.layers)
        loss += sensitivities.at(mix.plans[0]->layers[layer].info.name).at(scheme);
      of_group.push_back({group.bytes[scheme], loss});
      mix.schemes[scheme].alone.loss += loss;
    }
  }
  const Frontier frontier(options);
  const std::vector<SizedLoss>& points = frontier.points();
  const auto above = std::upper_bound(points.begin(), points.end(), mix.budget,
                                      [](uint64_t budget, const SizedLoss& point) { return budget < point.bytes; });
  if (above == points.begin())
    throw Error(cat("the target ", mix.target, " of the mix is less than the smallest export, about ",
                    format_bytes(mix.rest + points.front().bytes), ": raise it, or add a smaller scheme"));
  const size_t best = static_cast<size_t>(above - points.begin()) - 1;
  const std::vector<size_t> choice = frontier.options(best);
  const auto exported = [&](SizedLoss point) { return SizedLoss{mix.rest + point.bytes, point.loss}; };
  mix.chosen = exported(points[best]);
  const size_t shown = std::min(kCurvePoints, points.size());
  for (size_t i = 0; i < shown; ++i)
    mix.curve.push_back(exported(points[shown > 1 ? i * (points.size() - 1) / (shown - 1) : 0]));
  for (size_t i = 0; i < choice.size(); ++i) mix.schemes[choice[i]].layers += mix.groups[i].layers.size();

  Plan plan = make_plan(chosen_recipe(mix, choice), original, catalogue);
  for (size_t i = 0; i < choice.size(); ++i)
    for (const size_t layer : mix.groups[i].layers)
      assert(plan.layers[layer].scheme == mix.plans[choice[i]]->layers[layer].scheme);
  for (const std::string& warning : open.warnings)
    if (!contains(plan.warnings, warning)) plan.warnings.push_back(warning);
  plan.mix = std::make_shared<const MixPlan>(std::move(mix));
  return plan;
}

}  // namespace roundhouse
