// SPDX-License-Identifier: Apache-2.0
#include "host/plan/fused.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <set>

#include "host/base/error.h"
#include "host/base/words.h"

namespace roundhouse {
namespace {

using nlohmann::json;

using Members = std::vector<const LayerPlan*>;

std::string parent_of(const std::string& name) { return name.substr(0, name.rfind('.')); }
std::string last_part(const std::string& name) { return name.substr(name.rfind('.') + 1); }

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) out += c == '.' ? std::string("\\\\.") : std::string(1, c);
  return out;
}

// What an engine would find, where it tells layers apart.
std::string stored_as(const LayerPlan& layer) {
  const auto text = [](const std::shared_ptr<const EncodingCopy>& encoding) {
    return encoding ? cat(encoding->id(), " ", encoding->parameters().dump()) : std::string("plain");
  };
  return cat(text(layer.encoding), ", ", text(layer.activation_encoding));
}

// The layer that the others should be like: as most are; of equally many, as the one of the most bits.
const LayerPlan& model_of(const Members& members) {
  const auto rank = [&](const LayerPlan* layer) {
    const auto alike = std::count_if(members.begin(), members.end(),
                                     [&](const LayerPlan* other) { return stored_as(*other) == stored_as(*layer); });
    return std::pair(alike, layer->scheme.weight ? layer->scheme.weight->bits : 16);
  };
  return **std::max_element(members.begin(), members.end(),
                            [&](const LayerPlan* a, const LayerPlan* b) { return rank(a) < rank(b); });
}

// The keys of an entry under `layers:` that gives a layer this scheme.
std::string fields_text(const Scheme& scheme, const Scheme& usual) {
  if (!scheme.weight) return ", scheme: none";
  const json wanted = to_json(scheme), given = to_json(usual);
  const bool same_type = wanted.value("data_type", "") == given.value("data_type", "");
  std::string text;
  for (const auto& [key, value] : wanted.items())
    if (!same_type || !given.contains(key) || given[key] != value)
      text += cat(", ", key, ": ", value.is_string() ? value.get<std::string>() : value.dump());
  return text;
}

// "q_proj: int W8 g128 sym plain; k_proj, v_proj: unchanged".
std::string members_text(const Members& members) {
  std::vector<std::pair<std::string, std::string>> kinds;
  for (const LayerPlan* layer : members) {
    const std::string text = layer->kept() ? cat(layer->encoding->id(), " ", layer->encoding->parameters().dump())
                                           : scheme_text(layer->scheme);
    const auto kind = std::find_if(kinds.begin(), kinds.end(), [&](const auto& k) { return k.second == text; });
    if (kind == kinds.end())
      kinds.emplace_back(last_part(layer->info.name), text);
    else
      kind->first += ", " + last_part(layer->info.name);
  }
  std::string all;
  for (const auto& [names, text] : kinds) all += cat(all.empty() ? "" : "; ", names, ": ", text);
  return all;
}

struct FusedBy {
  std::set<std::string> engines, formats;
};

// By the roles of the layers.
std::map<std::vector<std::string>, FusedBy> fused_roles(const Plan& plan, const Catalogue& catalogue) {
  std::map<std::vector<std::string>, FusedBy> fuses;
  for (const FormatChoice& format : plan.recipe.formats)
    for (const json& backend : catalogue.find_format(format.id)->backends)
      for (const json& roles : backend.value("fuses", json::array())) {
        FusedBy& by = fuses[roles.get<std::vector<std::string>>()];
        by.engines.insert(backend.value("engine", ""));
        by.formats.insert(format.id);
      }
  return fuses;
}

// The layers of these roles by the module that they lie in.
std::map<std::string, Members> by_module(const Plan& plan, const std::vector<std::string>& roles) {
  std::map<std::string, Members> groups;
  for (const LayerPlan& layer : plan.layers)
    if (contains(roles, layer.info.role)) groups[parent_of(layer.info.name)].push_back(&layer);
  return groups;
}

}  // namespace

std::vector<Members> fused_layers(const Plan& plan, const Catalogue& catalogue) {
  std::vector<Members> all;
  for (const auto& [roles, by] : fused_roles(plan, catalogue))
    for (auto& [parent, members] : by_module(plan, roles)) all.push_back(std::move(members));
  return all;
}

void warn_of_fused(Plan& plan, const Catalogue& catalogue) {
  for (const auto& [roles, by] : fused_roles(plan, catalogue)) {
    const std::map<std::string, Members> groups = by_module(plan, roles);
    struct Kind {
      std::string module, pattern;  // of the first, but for the block
      std::set<int64_t> blocks;
    };
    std::map<std::string, Kind> kinds;  // by what is told of them
    for (const auto& [parent, members] : groups) {
      if (std::all_of(members.begin(), members.end(),
                      [&](const LayerPlan* m) { return stored_as(*m) == stored_as(*members[0]); }))
        continue;
      std::string names;
      for (const LayerPlan* layer : members) names += cat(names.empty() ? "" : "|", last_part(layer->info.name));
      const std::string block = cat(plan.block_prefix, ".", members[0]->block);
      const std::string within = members[0]->block < 0 ? "" : parent.substr(block.size());
      const std::string told = cat(within, "\n", members_text(members), "\n", members[0]->block < 0 ? parent : "");
      Kind& kind = kinds[told];
      kind.pattern = cat(within.empty() ? "" : escaped(within), "\\\\.(", names, ")\"",
                         fields_text(model_of(members).scheme, plan.scheme), "}");
      kind.module = members[0]->block < 0 ? parent : within;
      if (members[0]->block >= 0) kind.blocks.insert(members[0]->block);
    }
    for (const auto& [told, kind] : kinds) {
      const size_t line = told.find('\n') + 1;
      std::string numbers;
      for (const int64_t block : kind.blocks) numbers += cat(numbers.empty() ? "" : "|", block);
      const bool all = static_cast<int64_t>(kind.blocks.size()) == plan.blocks;
      const std::string blocks = all ? "\\\\d+" : kind.blocks.size() == 1 ? numbers : cat("(", numbers, ")");
      const std::string first =
          kind.blocks.empty()
              ? kind.module
              : cat(plan.block_prefix, ".", all ? "*" : std::to_string(*kind.blocks.begin()), kind.module);
      const std::string where =
          kind.blocks.empty() ? escaped(kind.module) : cat(escaped(plan.block_prefix), "\\\\.", blocks);
      plan.warnings.push_back(
          cat(joined({by.engines.begin(), by.engines.end()}), " fuses layers of ", first,
              !all && kind.blocks.size() > 1 ? cat(" (and of ", kind.blocks.size() - 1, " other blocks)") : "",
              " that are not quantized alike (", told.substr(line, told.find('\n', line) - line),
              "), and refuses such a checkpoint of ", joined({by.formats.begin(), by.formats.end()}),
              ". This makes them alike, as the first entry under layers: - {match: \"re:", where, kind.pattern));
    }
  }
}

}  // namespace roundhouse
