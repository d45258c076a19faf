// SPDX-License-Identifier: Apache-2.0
// Schemes as people write them: mappings and presets. What they leave open, the data type's plugin decides.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "host/yaml/yaml.h"

namespace roundhouse {

inline constexpr int64_t kMaxBits = 16;  // 16: not quantized
inline constexpr int64_t kMaxGroup = int64_t{1} << 31;

// Where something was written, for messages. Equal to every other, so that recipes compare by what they say.
struct Place {
  std::string text;
  bool operator==(const Place&) const { return true; }
};

// What a preset says of some layers.
struct PresetLayers {
  std::string match;      // as LayerPattern has it
  nlohmann::json fields;  // over the preset's own
  Place place;

  bool operator==(const PresetLayers&) const = default;
};

// The keys of `said` and `assumed` are scheme_keys(), their values of the right type and range.
struct SchemeChoice {
  std::string preset = {};                                   // its name, or ""
  nlohmann::json assumed = nlohmann::json::object();         // what the preset says
  nlohmann::json said = nlohmann::json::object();            // what the recipe itself says; it wins
  nlohmann::json format_options = nlohmann::json::object();  // by format id, as the preset has them
  std::vector<PresetLayers> layers = {};                     // the preset's
  Place place = {};

  bool operator==(const SchemeChoice&) const = default;
};

// data_type, bits, group_size, ...: docs/recipes.md has them all.
const std::vector<std::string>& scheme_keys();

struct Preset {
  std::string name;
  nlohmann::json fields;
  nlohmann::json format_options;  // by format id
  std::vector<PresetLayers> layers;
  std::filesystem::path file;
};

// The presets of all *.yaml in these folders, by folder and file name; the first of a name wins. Folders that are not
// there are passed over. Throws Error for a file that is not right.
std::vector<Preset> list_presets(const std::vector<std::filesystem::path>& folders);

// The members of `map` that are scheme_keys(); others are left to the caller. Throws Error for a wrong value.
nlohmann::json read_scheme_fields(const yaml::Node& map);

// A preset's name, or a mapping of scheme_keys() and `preset`. Throws Error with the nearest name when there is none.
SchemeChoice read_scheme(const yaml::Node& node, const std::vector<Preset>& presets);

}  // namespace roundhouse
