// SPDX-License-Identifier: Apache-2.0
#include "plugins/formats/gguf/names.h"

#include <algorithm>

#include "plugins/formats/lib/text.h"

namespace roundhouse::formats {
namespace {

constexpr const char* kHole = "{}";

// "model.layers.3.mlp.experts.5.up_proj.weight": pattern "model.layers.{}.mlp.experts.{}.up_proj", numbers "3" and "5",
// suffix ".weight".
struct Parts {
  std::string pattern, suffix;
  std::vector<std::string> numbers;
};

Parts split(const std::string& tensor) {
  Parts parts{tensor, "", {}};
  for (const char* suffix : {".weight", ".bias"}) {
    if (!tensor.ends_with(suffix)) continue;
    parts.suffix = suffix;
    parts.pattern.resize(tensor.size() - parts.suffix.size());
  }
  for (size_t begin = 0; begin < parts.pattern.size();) {
    size_t end = std::min(parts.pattern.find('.', begin), parts.pattern.size());
    const std::string part = parts.pattern.substr(begin, end - begin);
    // More digits are no number of a block or of an expert.
    if (!part.empty() && part.size() <= 9 && part.find_first_not_of("0123456789") == std::string::npos) {
      parts.pattern.replace(begin, part.size(), kHole);
      parts.numbers.push_back(part);
      end = begin + 2;
    }
    begin = end + 1;
  }
  return parts;
}

std::string joined(std::string pattern, const Parts& parts) {
  for (const std::string& number : parts.numbers)
    if (const size_t hole = pattern.find(kHole); hole != std::string::npos) pattern.replace(hole, 2, number);
  return pattern + parts.suffix;
}

std::string last_part(const std::string& tensor) {
  const std::string pattern = split(tensor).pattern;
  return pattern.substr(pattern.rfind('.') + 1);
}

// Whether one of them holds: a flag, or a list of them.
bool any(const Json& flags) {
  return flags.is_array() ? std::any_of(flags.begin(), flags.end(), any) : flags.is_boolean() && flags.get<bool>();
}

}  // namespace

Names::Names(const Json& architecture) : family_(text_at(architecture, "family", "unknown")) {
  const auto names = architecture.find("names");
  if (names == architecture.end() || !names->contains("gguf")) return;
  const Json& table = names->at("gguf");
  experts_alone_ = architecture.contains("experts") && table.contains("with_experts");
  architecture_ = table.at(experts_alone_ ? "with_experts" : "architecture");
  for (const auto& [source, stored] : table.at("tensors").items()) {
    if (stored.is_null()) {
      to_gguf_[source] = std::nullopt;
      continue;
    }
    const Json names_of = stored.is_array() ? stored : Json::array({stored});
    to_gguf_[source] = names_of[0].get<std::string>();
    if (names_of.size() > 1) seconds_[names_of[0]] = names_of[1].get<std::string>();
    for (const Json& name : names_of) from_gguf_[name] = source;
  }
  for (const auto& [key, scalar] : {std::pair("values", false), {"scalars", true}}) {
    const Json arrays = table.value(key, Json::object());
    for (const auto& [source, array] : arrays.items()) {
      values_.push_back({source, array, scalar});
      to_gguf_[source] = array.get<std::string>();
    }
  }
  heeds_windows_ = table.value("windows", false);
  own_windows_ = table.value("own_windows", false);
  bare_mamba2_ = table.value("bare_mamba2", false);
  tied_only_ = table.value("tied_only", false);
  untied_only_ = table.value("untied_only", false);
  if (table.contains("normalizes")) normalizes_ = table.at("normalizes").get<bool>();
  for (const Json& name : table.value("activations", Json::array({"silu"}))) activations_.push_back(name);
  rotary_but_every_ = table.value("rotary_but_every", int64_t{0});
  truncates_ = table.value("truncates", false);
  own_keys_ = table.value("own_keys", false);
  expert_steps_ = table.value("expert_steps", false);
  for (const Json& name : table.value("plus_one", Json::array())) plus_one_.insert(name.get<std::string>());
  for (const Json& name : table.value("minus_exp", Json::array())) minus_exp_.insert(name.get<std::string>());
  for (const Json& name : table.value("transposed", Json::array())) transposed_.insert(name.get<std::string>());
  const Json shapes = table.value("shapes", Json::object());
  for (const auto& [name, shape] : shapes.items()) shapes_[name] = shape;
  for (const Json& size : table.value("sections", Json::array())) sections_.push_back(size.get<int32_t>());
  if (!sections_.empty()) sections_.resize(4);
  for (const Json& refusal : table.value("refuse", Json::array()))
    if (any(refusal.value("when", Json(true))) && !any(refusal.value("unless", Json(false))))
      refusals_.push_back(refusal.at("reason"));
  read_layouts(table, architecture);
}

void Names::read_layouts(const Json& table, const Json& architecture) {
  const int64_t heads = architecture.at("heads"), kv_heads = architecture.at("kv_heads");
  for (const Json& name : table.value("grouped", Json::array())) {
    Layout& layout = layouts_[name.get<std::string>()];
    layout.groups = kv_heads;
    layout.parts = {heads / kv_heads * architecture.at("head_dim").get<int64_t>(), architecture.at("head_dim"),
                    architecture.at("head_dim")};
  }
  const Json interleaved = table.value("interleaved", Json::object());
  for (const auto& [name, of] : interleaved.items()) {
    layouts_[name].heads = architecture.at(of.get<std::string>());
    if (const Json& rotary = architecture.at("rotary"); !rotary.is_null()) layouts_[name].rotated = rotary.at("dims");
  }
  if (const Json recurrent = architecture.value("recurrent", Json()); !recurrent.is_null()) {
    const int64_t groups = recurrent.at("key_heads"), key = recurrent.at("key_dim"), size = recurrent.at("head_dim");
    groups_ = groups;
    const int64_t in_group = groups > 0 ? recurrent.at("heads").get<int64_t>() / groups : 0;
    Layout tiled, units;
    tiled.tail = units.tail = true;
    tiled.groups = units.groups = groups;
    tiled.parts.assign(static_cast<size_t>(in_group), size);
    units.parts.assign(static_cast<size_t>(in_group), 1);
    for (const Json& name : table.value("tiled", Json::array())) {
      layouts_[name.get<std::string>()] = tiled;
      units_[name.get<std::string>()] = units;
    }
    for (const Json& name : table.value("tiled_columns", Json::array()))
      if (in_group > 1) column_layouts_[name.get<std::string>()] = tiled;
    for (const Json& name : table.value("key_heads", Json::array())) {
      Layout& layout = layouts_[name.get<std::string>()];
      layout.groups = groups;
      layout.parts = {key, key, in_group * size, in_group * size};
      layout.first = 3;
    }
  }
  if (const Json latent = architecture.value("latent", Json()); !latent.is_null())
    for (const Json& name : table.value("latent", Json::array())) {
      Layout& layout = layouts_[name.get<std::string>()];
      layout.groups = heads;
      layout.parts = {latent.at("nope"), latent.at("value")};
      layout.first = 1;
      layout.transposed = true;
    }
  for (const auto& [first, second] : seconds_) {  // else they are halves
    Layout& layout = layouts_[last_part(first)];
    if (layout.groups == 0) layout.first = 1;
  }
}

void Names::require_known() const {
  if (architecture_.empty())
    throw rh::Error(RH_INVALID_ARGUMENT, cat("llama.cpp does not run the architecture ", family_,
                                             " (its descriptor has no names.gguf); choose another format"));
  for (const std::string& refusal : refusals_)
    throw rh::Error(RH_INVALID_ARGUMENT, cat("llama.cpp's ", architecture_, " ", refusal, "; choose another format"));
}

std::optional<std::string> Names::to_gguf(const std::string& tensor) const {
  Parts parts = split(tensor);
  auto found = to_gguf_.find(parts.pattern);
  if (found == to_gguf_.end()) {  // one whose name in the file has another suffix, or none
    found = to_gguf_.find(parts.pattern + parts.suffix);
    parts.suffix.clear();
  }
  if (found == to_gguf_.end())
    throw rh::Error(RH_INVALID_ARGUMENT, cat("the tensor ", tensor, " has no name in GGUF: the descriptor of ", family_,
                                             " does not list it under names.gguf.tensors"));
  if (!found->second) return std::nullopt;
  return joined(*found->second, parts);
}

std::optional<std::string> Names::second_of(const std::string& tensor) const {
  const Parts parts = split(tensor);
  const auto found = to_gguf_.find(parts.pattern);
  if (found == to_gguf_.end() || !found->second) return std::nullopt;
  const auto second = seconds_.find(*found->second);
  return second == seconds_.end() ? std::nullopt : std::optional(joined(second->second, parts));
}

std::optional<int64_t> Names::place_in_stack(const std::string& tensor) const {
  const Parts parts = split(tensor);
  const auto found = to_gguf_.find(parts.pattern);
  const bool stacked = found != to_gguf_.end() && parts.numbers.size() == 2;
  return stacked ? std::optional(std::stoll(parts.numbers[1])) : std::nullopt;
}

std::optional<std::pair<std::string, int64_t>> Names::value_of(const std::string& tensor) const {
  const Parts parts = split(tensor);
  for (const Value& value : values_)
    if (value.tensor == parts.pattern && parts.numbers.size() == 1) return {{value.key, std::stoll(parts.numbers[0])}};
  return std::nullopt;
}

std::string Names::from_gguf(const std::string& tensor) const {
  Parts parts = split(tensor);
  auto found = from_gguf_.find(parts.pattern);
  if (found == from_gguf_.end()) {  // what is no weight or bias of a module in the source has its whole name there
    found = from_gguf_.find(parts.pattern + parts.suffix);
    parts.suffix.clear();
  }
  return found == from_gguf_.end() ? tensor : joined(found->second, parts);
}

const Layout* Names::layout(const std::string& tensor, int64_t rows) const {
  const std::string name = last_part(tensor);
  const auto found = layouts_.find(name);
  if (found == layouts_.end()) return nullptr;
  const auto unit = units_.find(name);
  return unit != units_.end() && rows == unit->second.groups * unit->second.sum(unit->second.parts.size())
             ? &unit->second
             : &found->second;
}

const Layout* Names::column_layout(const std::string& tensor) const {
  const auto found = column_layouts_.find(last_part(tensor));
  return found == column_layouts_.end() || tensor.ends_with(".bias") ? nullptr : &found->second;
}

bool Names::is_listed(const std::set<std::string>& names, const std::string& tensor) const {
  return !tensor.ends_with(".bias") && names.count(last_part(tensor)) > 0;
}

bool Names::reshaped(const std::string& tensor) const {
  return !tensor.ends_with(".bias") && shapes_.count(last_part(tensor)) > 0;
}

std::vector<int64_t> Names::stored_shape(const std::string& tensor, std::vector<int64_t> shape) const {
  if (!reshaped(tensor)) return shape;
  const std::string& form = shapes_.at(last_part(tensor));
  if (form == "channels" && shape.size() == 3) return {shape[0], shape[2]};
  if (form == "column") return {shape[0], 1};
  if (form == "groups" && groups_ > 0) return {groups_, shape[0] / groups_};
  return shape;
}

std::vector<int64_t> Names::source_shape(const std::string& tensor, std::vector<int64_t> shape) const {
  if (!reshaped(tensor) || shape.size() != 2) return shape;
  if (shapes_.at(last_part(tensor)) == "channels") return {shape[0], 1, shape[1]};
  return {shape[0] * shape[1]};
}

}  // namespace roundhouse::formats
