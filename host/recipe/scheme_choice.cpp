// SPDX-License-Identifier: Apache-2.0
#include "host/recipe/scheme_choice.h"

#include <algorithm>
#include <cctype>
#include <stdexcept>

#include "host/base/error.h"
#include "host/base/scheme.h"
#include "host/base/suggest.h"
#include "host/base/tensor.h"
#include "host/base/words.h"

namespace roundhouse {
namespace {

using nlohmann::json;
using yaml::Node;

// Columns, -1 (a row) or 0 (the whole tensor); or [rows, columns].
json read_group_size(const Node& node) {
  if (!node.is_list()) return node.as_int(-1, kMaxGroup);
  const std::vector<Node>& sizes = node.as_list();
  if (sizes.size() != 2) node.fail("must be a whole number, or [rows, columns]");
  return {sizes[0].as_int(1, kMaxGroup), sizes[1].as_int(1, kMaxGroup)};
}

json read_element_type(const Node& node) {
  const std::string& name = node.as_text();
  for (const DType dtype : {DType::kF16, DType::kBF16, DType::kF32})
    if (name == config_name(dtype)) return name;
  node.fail(cat("must be float16, bfloat16 or float32, not ", name));
}

json read_options(const Node& node) {
  node.members();  // a map
  return node.is_null() ? json::object() : node.as_json();
}

// A field of one side, as a recipe writes it.
struct SchemeKey {
  std::string name;
  SchemeField::Kind kind;
};

const std::vector<SchemeKey>& keys() {
  static const std::vector<SchemeKey> all = [] {
    std::vector<SchemeKey> keys;
    for (const SchemeField& field : scheme_fields())
      if (field.said & SchemeField::kWeight) keys.push_back({field.key, field.kind});
    for (const SchemeField& field : scheme_fields())
      if (field.said & SchemeField::kActivation) keys.push_back({cat(kActivationPrefix, field.key), field.kind});
    return keys;
  }();
  return all;
}

json read(SchemeField::Kind kind, const Node& node) {
  switch (kind) {
    case SchemeField::Kind::kName:
      return node.as_text();
    case SchemeField::Kind::kBits:
      return node.as_int(1, kMaxBits);
    case SchemeField::Kind::kGroupSize:
      return read_group_size(node);
    case SchemeField::Kind::kFlag:
      return node.as_bool();
    case SchemeField::Kind::kElementType:
      return read_element_type(node);
    case SchemeField::Kind::kAmount:
      return node.as_number(0);
    case SchemeField::Kind::kOptions:
      return read_options(node);
  }
  throw std::logic_error("a field of no kind");
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

const Preset* find_preset(const std::vector<Preset>& presets, const std::string& name) {
  const auto same = [&](const Preset& preset) { return lower(preset.name) == lower(name); };
  const auto found = std::find_if(presets.begin(), presets.end(), same);
  return found == presets.end() ? nullptr : &*found;
}

std::vector<PresetLayers> read_preset_layers(const Node& list) {
  std::vector<PresetLayers> layers;
  for (const Node& entry : list.as_list()) {
    std::vector<std::string> keys = scheme_keys();
    keys.push_back("match");
    entry.only(keys);
    const Node& match = entry.at("match");
    layers.push_back({match.as_text(), read_scheme_fields(entry), {match.place()}});
  }
  return layers;
}

void add_presets(const std::filesystem::path& file, std::vector<Preset>& presets) {
  const Node root = Node::load(file);
  root.only({"version", "presets"});
  root.at("version").as_int(1, 1);
  for (const auto& [name, fields] : root.at("presets").members()) {
    std::vector<std::string> keys = scheme_keys();
    keys.insert(keys.end(), {"format_options", "layers"});
    fields->only(keys);
    std::vector<PresetLayers> layers;
    if (const Node* list = fields->find("layers")) layers = read_preset_layers(*list);
    json options = json::object();
    if (const Node* formats = fields->find("format_options"))
      for (const auto& [id, value] : formats->members()) options[id] = read_options(*value);
    if (!find_preset(presets, name))
      presets.push_back({name, read_scheme_fields(*fields), std::move(options), std::move(layers), file});
  }
}

void apply_preset(const Node& name, const std::vector<Preset>& presets, SchemeChoice& choice) {
  const Preset* preset = find_preset(presets, name.as_text());
  if (!preset) {
    std::vector<std::string> names;
    for (const Preset& p : presets) names.push_back(p.name);
    name.fail(cat("there is no preset ", name.as_text(), suggest(name.as_text(), names), ". Presets: ", joined(names),
                  ". Or write a mapping: {data_type: ..., bits: ...}"));
  }
  choice.preset = preset->name;
  choice.assumed = preset->fields;
  choice.format_options = preset->format_options;
  choice.layers = preset->layers;
}

}  // namespace

const std::vector<std::string>& scheme_keys() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const SchemeKey& key : keys()) all.push_back(key.name);
    return all;
  }();
  return names;
}

std::vector<Preset> list_presets(const std::vector<std::filesystem::path>& folders) {
  std::vector<Preset> presets;
  for (const auto& folder : folders) {
    if (!std::filesystem::is_directory(folder)) continue;
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(folder))
      if (entry.path().extension() == ".yaml") files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    for (const auto& file : files) add_presets(file, presets);
  }
  return presets;
}

json read_scheme_fields(const Node& map) {
  json fields = json::object();
  for (const SchemeKey& key : keys())
    if (const Node* value = map.find(key.name)) fields[key.name] = read(key.kind, *value);
  return fields;
}

SchemeChoice read_scheme(const Node& node, const std::vector<Preset>& presets) {
  SchemeChoice choice;
  choice.place = {node.place()};
  if (!node.is_map()) {
    apply_preset(node, presets, choice);
    return choice;
  }
  std::vector<std::string> keys = scheme_keys();
  keys.push_back("preset");
  node.only(keys);
  if (const Node* preset = node.find("preset")) apply_preset(*preset, presets, choice);
  choice.said = read_scheme_fields(node);
  return choice;
}

}  // namespace roundhouse
