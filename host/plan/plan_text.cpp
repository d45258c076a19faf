// SPDX-License-Identifier: Apache-2.0
#include "host/plan/plan_text.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include "host/base/error.h"
#include "host/base/name_numbers.h"
#include "host/base/words.h"
#include "host/plan/mix_text.h"
#include "host/plan/passes.h"
#include "host/report/table.h"

namespace roundhouse {
namespace {

using nlohmann::json;

// "{0-3,7}" of 3 and more blocks, "*" when they are all.
std::string blocks_text(const std::set<int64_t>& numbers, int64_t all) {
  const std::vector<int64_t> blocks(numbers.begin(), numbers.end());
  if (static_cast<int64_t>(blocks.size()) == all && all > 1) return "*";
  std::string ranges;
  for (size_t i = 0; i < blocks.size();) {
    size_t end = i + 1;
    while (end < blocks.size() && blocks[end] == blocks[end - 1] + 1) ++end;
    ranges += cat(i ? "," : "", blocks[i]);
    if (end > i + 1) ranges += cat(end > i + 2 ? "-" : ",", blocks[end - 1]);
    i = end;
  }
  return blocks.size() == 1 ? ranges : "{" + ranges + "}";
}

// A name's first number between dots, or nothing.
struct Numbered {
  std::string before, after;
  std::optional<int64_t> number;

  explicit Numbered(const std::string& name) : before(name) {
    const std::vector<NameNumber> numbers = numbers_in(name);
    if (numbers.empty()) return;
    before = name.substr(0, numbers[0].begin);
    after = name.substr(numbers[0].end);
    number = numbers[0].value;
  }
};

// Layers that differ in nothing but their block, and another number behind it.
struct Group {
  std::string before, after;  // of that other number in their names, without the block's
  std::string about;          // what else they have in common
  const LayerPlan* first = nullptr;
  std::set<int64_t> blocks;   // empty: they are outside the blocks
  std::set<int64_t> numbers;  // empty: there is no other number
  size_t layers = 0;

  std::string name(const Plan& plan) const {
    std::string text = blocks.empty() ? "" : cat(plan.block_prefix, ".", blocks_text(blocks, plan.blocks));
    text += before;
    if (!numbers.empty()) text += blocks_text(numbers, -1);
    return text + after;
  }
};

class Groups {
 public:
  explicit Groups(const Plan& plan) : plan_(plan) {}

  void add(const LayerPlan& layer, const std::string& about) {
    const std::string block = cat(plan_.block_prefix, ".", layer.block);
    const Numbered name(layer.block < 0 ? layer.info.name : layer.info.name.substr(block.size()));
    const auto [at, first] = places_.emplace(Key{layer.block < 0, name.before, name.after, about}, all.size());
    if (first) all.push_back({name.before, name.after, about, &layer, {}, {}});
    Group& group = all[at->second];
    if (layer.block >= 0) group.blocks.insert(layer.block);
    if (name.number) group.numbers.insert(*name.number);
    ++group.layers;
  }

  std::vector<Group> all;  // by first layer

 private:
  using Key = std::tuple<bool, std::string, std::string, std::string>;

  std::map<Key, size_t> places_;
  const Plan& plan_;
};

// Every number in a name as *.
std::string without_numbers(const std::string& name) {
  const Numbered numbered(name);
  return numbered.number ? numbered.before + "*" + without_numbers(numbered.after) : name;
}

// What a generic architecture leaves alone, alike names together.
std::string left_text(const Plan& plan) {
  std::map<std::pair<std::string, std::string>, size_t> counts;
  std::vector<std::pair<std::string, std::string>> order;
  for (const auto& [name, why] : plan.left) {
    const std::pair key{without_numbers(name), replaced(why, name, "the layer")};
    if (++counts[key] == 1) order.push_back(key);
  }
  std::vector<std::vector<std::string>> rows = {{"left as it is", "count", "why"}};
  for (const auto& key : order) rows.push_back({key.first, std::to_string(counts[key]), key.second});
  return format_table(rows);
}

// The entry of the recipe, or the format, that a layer's scheme comes from.
const std::string& decided_by(const LayerPlan& layer) { return layer.matched.empty() ? layer.assigned : layer.matched; }

// What is wanted of a layer; of one that was read from a checkpoint, what it holds.
std::string what_text(const LayerPlan& layer) {
  return layer.kept() ? cat(layer.encoding->id(), " ", layer.encoding->parameters().dump()) : scheme_text(layer.scheme);
}

std::string calibration_text(const Calibration& calibration) {
  if (calibration.data.empty()) return "none";
  std::vector<std::string> files;
  for (const DataFile& data : calibration.data)
    files.push_back(cat(data.file.string(), data.share ? cat(" (share ", *data.share, ")") : ""));
  return cat(joined(files), ", ", calibration.samples, " samples of ", calibration.seqlen, " tokens",
             calibration.concatenate ? ", packed" : "");
}

std::string tuning_text(const Tuning& tuning, const Calibration& calibration) {
  if (tuning.iters == 0) return tuning.search ? "none, searched rounding" : "none, plain rounding";
  return cat(tuning.iters, " iterations, batches of ", calibration.batch_size,
             tuning.gradient_accumulation > 1 ? cat(" x ", tuning.gradient_accumulation) : "");
}

// So many bytes of activations, and where they are.
std::string activations_text(const Recipe& recipe, uint64_t bytes) {
  const bool undecided = recipe.device.kind == DeviceChoice::Kind::kAuto;
  const std::string text = cat("activations ", format_bytes(bytes), undecided ? " on a CPU" : "");
  if (!recipe.memory) return text;
  const uint64_t kept = std::min(bytes, static_cast<uint64_t>(*recipe.memory));
  return cat(text, ", of them ", format_bytes(kept), " in memory, ", format_bytes(bytes - kept), " on disk");
}

// Entries of `layers:` that leave the unfit layers alone: one for all layers whose names differ in numbers, where none of
// them fits, else the numbers one by one. "" where no other layer would be quantized.
std::string entries_that_leave(const Plan& plan) {
  std::map<std::string, size_t> fit;  // layers, by their names without numbers
  bool any_fits = false;
  for (const LayerPlan& layer : plan.layers) {
    if (layer.unfit) continue;
    ++fit[without_numbers(layer.info.name)];
    any_fits = any_fits || (layer.encoding && layer.problems.empty());
  }
  if (!any_fits) return "";
  struct Entry {
    std::string name, before, numbers, after;  // of its first layer; regular expressions
    size_t layers = 0;
  };
  std::vector<Entry> entries;
  std::map<std::string, size_t> known;  // into entries
  for (const LayerPlan& layer : plan.layers) {
    if (!layer.unfit) continue;
    const std::string& name = layer.info.name;
    const std::string pattern = without_numbers(name);
    const Numbered numbered(name);
    const bool all = !fit.contains(pattern);
    const auto [found, first] =
        known.try_emplace(all ? pattern : cat(numbered.before, "*", numbered.after), entries.size());
    if (first && all) entries.push_back({name, replaced(LayerPattern::quoted(pattern), "\\*", "\\d+"), "", ""});
    if (first && !all)
      entries.push_back({name, LayerPattern::quoted(numbered.before), "", LayerPattern::quoted(numbered.after)});
    Entry& entry = entries[found->second];
    if (!all && numbered.number) entry.numbers += cat(entry.numbers.empty() ? "" : "|", *numbered.number);
    ++entry.layers;
  }
  std::string text = entries.empty() ? "" : "layers:";
  for (const Entry& entry : entries) {
    const std::string numbers = entry.numbers.empty() ? "" : "(" + entry.numbers + ")";
    const std::string match = entry.layers == 1 ? entry.name : cat("re:", entry.before, numbers, entry.after);
    text += cat("\n  - {match: '", replaced(match, "'", "''"), "', scheme: none}");
  }
  return text;
}

// "NAME.weight" is the layer's weight.
std::string the_layer(std::string text, const std::string& name) {
  for (size_t at = 0; (at = text.find(name + ".", at)) != std::string::npos;) {
    const size_t after = at + name.size() + 1;
    if (after < text.size() && std::islower(static_cast<unsigned char>(text[after])))
      text.replace(at, after - at, "the layer's ");
    else
      at = after;
  }
  return replaced(text, name, "the layer");
}

}  // namespace

std::string without_name(const std::string& text, const std::string& name) {
  std::string result, plain;
  int depth = 0;
  bool quoted = false;
  for (const char c : text) {
    const bool opens = c == '[' || c == '{', closes = c == ']' || c == '}';
    if (depth == 0 && !quoted && (opens || c == '"')) result += the_layer(std::exchange(plain, ""), name);
    (depth > 0 || quoted || opens || c == '"' ? result : plain) += c;
    if (c == '"') quoted = !quoted;
    if (opens) ++depth;
    if (closes && depth > 0) --depth;
  }
  return result + the_layer(plain, name);
}

std::string describe(const Plan& plan) {
  Groups groups(plan);
  for (const LayerPlan& layer : plan.layers)
    groups.add(layer, cat(scheme_text(layer.scheme), layer.encoding_id(), decided_by(layer), layer.info.out_features,
                          " ", layer.info.in_features));
  std::vector<std::vector<std::string>> layers = {{"layer", "count", "shape", "scheme", "encoding", "matched"}};
  for (const Group& group : groups.all) {
    const LayerPlan& layer = *group.first;
    layers.push_back({group.name(plan), std::to_string(group.layers),
                      shape_text({layer.info.out_features, layer.info.in_features}), scheme_text(layer.scheme),
                      layer.encoding_id(), decided_by(layer)});
  }
  std::vector<std::vector<std::string>> formats = {{"format", "size, about", "loaded by"}};
  for (const FormatPlan& format : plan.formats) {
    std::vector<std::string> engines;  // without the packages that they need, which `roundhouse formats --json` has
    for (const json& backend : format.backends) {
      const std::string engine = backend.value("engine", "");
      const std::string name = engine.substr(0, std::min(engine.find(" with "), engine.find(',')));
      if (std::find(engines.begin(), engines.end(), name) == engines.end()) engines.push_back(name);
    }
    formats.push_back({format.id, format_bytes(format.bytes_estimate), joined(engines)});
  }

  const Recipe& recipe = plan.recipe;
  std::string text = cat("model        ", recipe.model.string(), ", ", format_bytes(plan.bytes_before), ", ",
                         plan.blocks, " blocks\ncalibration  ", calibration_text(recipe.calibration), "\ntuning       ",
                         tuning_text(recipe.tuning, recipe.calibration), "\n");
  if (plan.seconds_estimate && *plan.seconds_estimate > 0)
    text += cat("time         about ", format_seconds(*plan.seconds_estimate), " on a CPU\n");
  if (plan.experts > 0)
    text += cat("experts      ", plan.experts, " a block, ", plan.experts_used, " for a token",
                passes(plan).any() ? cat(": about ", tokens_an_expert(plan), " calibration tokens each") : "", "\n");
  if (recipe.memory) text += cat("memory       ", activations_text(recipe, plan.activation_bytes), "\n");
  if (plan.mix && !plan.mix->chosen)
    text +=
        cat("measuring    ", activations_text(recipe, plan.mix->activation_bytes), ", before the schemes are chosen\n");
  if (journal_bytes(plan) > 0)
    text += cat("journal      up to ", format_bytes(journal_bytes(plan)), " on the output's disk while it runs\n");
  text += cat("output       ", recipe.output.string(), "\n\n", plan.mix ? describe(*plan.mix) + "\n" : "",
              format_table(layers), "\n", plan.left.empty() ? "" : left_text(plan) + "\n", format_table(formats));
  for (const FormatPlan& format : plan.formats)
    for (const auto& [name, reason] : format.omitted)
      text += cat("\n", format.id, " does not store ", name, ": ", reason);
  for (const std::string& warning : plan.warnings) text += cat("\nwarning: ", warning);
  return text + (plan.warnings.empty() ? "" : "\n");
}

std::string describe_problems(const Plan& plan, const std::string& heading) {
  Groups groups(plan);
  for (const LayerPlan& layer : plan.layers)
    for (const std::string& problem : layer.problems)
      groups.add(layer, cat(what_text(layer), ": ", without_name(problem, layer.info.name)));
  std::vector<std::pair<std::string, std::string>> problems;  // with the layers' names
  for (const std::string& problem : plan.problems) problems.emplace_back(problem, "");
  std::map<std::string, size_t> places;  // of what layers have in common
  for (const Group& group : groups.all) {
    const auto [at, first] = places.emplace(group.about, problems.size());
    if (first) problems.emplace_back(group.about, "");
    problems[at->second].second += (first ? "" : ", ") + group.name(plan);
  }
  if (problems.empty()) return "";
  std::string text = heading;
  for (const auto& [problem, names] : problems)
    text += cat("\n  ", replaced(problem, "\n", "\n  "), names.empty() ? "" : "\n    ", names);
  if (const std::string entries = entries_that_leave(plan); !entries.empty())
    text += cat("\nTo leave these layers as they are, add to the recipe, before the entries that it has:\n", entries);
  return text;
}

json to_json(const Plan& plan) {
  json layers = json::array();
  for (const LayerPlan& layer : plan.layers) {
    layers.push_back(
        {{"name", layer.info.name},
         {"role", layer.info.role},
         {"rows", layer.info.out_features},
         {"cols", layer.info.in_features},
         {"quantized", layer.encoding != nullptr},
         {"scheme", to_json(layer.scheme)},
         {"encoding",
          layer.encoding ? json{{"id", layer.encoding->id()}, {"parameters", layer.encoding->parameters()}} : json()},
         {"matched", layer.matched.empty() ? json() : json(layer.matched)}});
  }
  json tensors = json::array(), formats = json::array();
  for (const TensorPlan& tensor : plan.tensors)
    tensors.push_back({{"name", tensor.name}, {"shape", tensor.shape}, {"dtype", config_name(tensor.dtype)}});
  for (const FormatPlan& format : plan.formats) {
    json omitted = json::object();
    for (const auto& [name, reason] : format.omitted) omitted[name] = reason;
    formats.push_back({{"id", format.id}, {"bytes_estimate", format.bytes_estimate}, {"omitted", omitted}});
  }
  json plan_json = {{"scheme", to_json(plan.scheme)},
                    {"layers", std::move(layers)},
                    {"tensors", std::move(tensors)},
                    {"formats", std::move(formats)},
                    {"block_prefix", plan.block_prefix},
                    {"tied_head", plan.tied_head},
                    {"dtype", config_name(plan.layers.at(0).dtype)}};
  if (plan.mix) plan_json["mix"] = to_json(*plan.mix);
  for (const auto& [name, why] : plan.left) plan_json["left"].push_back({{"name", name}, {"why", why}});
  return plan_json;
}

}  // namespace roundhouse
