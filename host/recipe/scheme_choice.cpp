#include "host/recipe/scheme_choice.h"

#include <algorithm>
#include <cctype>
#include <functional>

#include "host/base/error.h"
#include "host/base/suggest.h"
#include "host/base/tensor.h"
#include "host/base/words.h"

namespace roundhouse {
namespace {

using nlohmann::json;
using yaml::Node;

constexpr int64_t kMaxBits = 16;  // 16: not quantized
constexpr int64_t kMaxGroup = int64_t{1} << 31;

json read_bits(const Node& node) { return node.as_int(1, kMaxBits); }

json read_flag(const Node& node) { return node.as_bool(); }

json read_text(const Node& node) { return node.as_text(); }

json read_amount(const Node& node) { return node.as_number(0); }

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

struct SchemeKey {
  std::string name;
  std::function<json(const Node&)> read;
};

const std::vector<SchemeKey> kKeys = {
    {"data_type", read_text},
    {"bits", read_bits},
    {"group_size", read_group_size},
    {"sym", read_flag},
    {"scale_dtype", read_element_type},
    {"q_scale_thresh", read_amount},
    {"options", read_options},
    {"act_data_type", read_text},
    {"act_bits", read_bits},
    {"act_group_size", read_group_size},
    {"act_sym", read_flag},
    {"act_dynamic", read_flag},
};

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
    for (const SchemeKey& key : kKeys) all.push_back(key.name);
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
  for (const SchemeKey& key : kKeys)
    if (const Node* value = map.find(key.name)) fields[key.name] = key.read(*value);
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
