// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "host/base/error.h"
#include "host/base/words.h"
#include "host/model/resolve_parts.h"

namespace roundhouse {
namespace {

using Scaling = RotaryInfo::Scaling;

// The members of config.json's map of rotary parameters, or of several, of which the last that has one wins; none where
// it is absent or null.
class RotaryMap {
 public:
  explicit RotaryMap(const Value& said) : maps_(said.is_list() ? said.items() : std::vector{said}) {
    std::erase_if(maps_, [](const Value& map) { return map.is_null(); });
    std::reverse(maps_.begin(), maps_.end());
  }

  std::optional<Value> find(std::string_view key) const {
    for (const Value& map : maps_)
      if (const auto value = map.find(key); value && !value->is_null()) return value;
    return std::nullopt;
  }
  std::optional<Value> find_or_null(std::string_view key) const {
    for (const Value& map : maps_)
      if (auto value = map.find(key)) return value;
    return std::nullopt;
  }
  Value at(const char* key) const {
    const auto value = find(key);
    return value ? *value : maps_.front().at(key);  // which says where it is missing, or null
  }
  double number(const char* key, double otherwise) const {
    const auto value = find(key);
    return value ? value->number() : otherwise;
  }
  std::vector<double> numbers(const char* key, int64_t count) const {
    const Value list = at(key);
    std::vector<double> all;
    for (const Value& value : list.items()) all.push_back(value.number());
    if (static_cast<int64_t>(all.size()) != count) list.fail(cat(count, " numbers, one for each pair of features,"));
    return all;
  }
  // Throws Error for a map of such maps, one for each kind of block.
  void require_flat() const {
    for (const Value& map : maps_)
      for (const auto& [key, member] : map.members())
        if (member.is_map() && (member.find("rope_theta") || member.find("rope_type") || member.find("type")))
          map.fail("a map with rope_theta or rope_type, for all blocks alike,");
  }

 private:
  std::vector<Value> maps_;  // the winner first
};

// YaRN's section 3.4; with mscale as DeepSeek writes it.
void read_yarn(RotaryInfo& rotary, const RotaryMap& map) {
  const auto temperature = [&](double scale) { return 0.1 * scale * std::log(std::max(rotary.factor, 1.0)) + 1; };
  const double scale = map.number("mscale", 0), scale_of_all = map.number("mscale_all_dim", 0);
  rotary.scaling = Scaling::kYarn;
  rotary.beta_fast = map.number("beta_fast", rotary.beta_fast);
  rotary.beta_slow = map.number("beta_slow", rotary.beta_slow);
  if (const auto truncate = map.find_or_null("truncate")) rotary.truncate = truncate->flag();
  rotary.attention_factor =
      map.number("attention_factor",
                 scale != 0 && scale_of_all != 0 ? temperature(scale) / temperature(scale_of_all) : temperature(1));
  if (scale_of_all != 0) rotary.scores_factor = temperature(scale_of_all) * temperature(scale_of_all);
}

void read_longrope(RotaryInfo& rotary, const RotaryMap& map, int64_t positions) {
  rotary.scaling = Scaling::kLongrope;
  rotary.short_factors = map.numbers("short_factor", rotary.dims / 2);
  rotary.long_factors = map.numbers("long_factor", rotary.dims / 2);
  const double original = static_cast<double>(rotary.original_positions);
  rotary.factor = map.number("factor", static_cast<double>(positions) / original);
  rotary.attention_factor = map.number(
      "attention_factor", rotary.factor <= 1 ? 1 : std::sqrt(1 + std::log(rotary.factor) / std::log(original)));
  // Phi-3.5-MoE says them itself.
  rotary.long_attention_factor = map.number("long_mscale", rotary.attention_factor);
  rotary.attention_factor = map.number("short_mscale", rotary.attention_factor);
}

std::optional<Value> type_of(const RotaryMap& map) {
  const auto type = map.find("rope_type");
  return type ? type : map.find("type");
}

}  // namespace

// As in transformers, where no scaling is that of no type, whatever else is said.
std::vector<std::string> unused_scaling(const Value& value) {
  const RotaryMap map(value.at("scaling"));
  std::vector<std::string> told;
  if (const auto type = type_of(map); type && type->text() != "default") return told;
  for (const char* key : {"factor", "short_factor"})
    if (const auto said = map.find(key); said && (said->is_list() || said->number() != 1))
      told.push_back(cat(said->origin(), " changes nothing: no rope_type says how positions are scaled"));
  return told;
}

// `scaling` is config.json's map of rotary parameters. In the style of transformers 4 it holds the scaling alone, in
// that of 5 theta and the rotated fraction too; the map wins over the keys beside it.
RotaryInfo read_rotary(const Value& value, const Value& sizes, int64_t head_dim, int64_t positions) {
  value.only({"theta", "fraction", "dims", "scaling", "alpha", "interleaved", "original_positions", "when", "unless"});
  const RotaryMap map(value.at("scaling"));
  const auto theta = map.find("rope_theta");
  const auto type = type_of(map);
  map.require_flat();

  RotaryInfo rotary;
  rotary.theta = (theta ? *theta : value.at("theta")).number();
  if (const auto interleaved = value.find("interleaved")) rotary.interleaved = interleaved->flag();
  auto fraction = value.find("fraction");
  // A family without a fraction turns whole heads, as in transformers, unless the positions are scaled.
  if (fraction || (type && type->text() != "default"))
    if (const auto said = map.find_or_null("partial_rotary_factor")) {
      if (said->is_null()) said->fail("a number, or no such key,");
      fraction = said;
    }
  if (fraction && fraction->is_null()) fraction.reset();
  rotary.dims = static_cast<int64_t>(static_cast<double>(head_dim) * (fraction ? fraction->number() : 1.0));
  if (const auto dims = value.find("dims"); dims && !dims->is_null()) rotary.dims = dims->positive();
  if (rotary.dims <= 0 || rotary.dims > head_dim || rotary.dims % 2 != 0)
    (fraction ? *fraction : sizes.at("head_dim")).fail("what leaves an even number of rotary features");

  // mrope turns the features of images' positions; for a text all three positions are equal.
  // dynamic changes nothing up to the positions that the model knows, but for an alpha where the family heeds it.
  const auto heeds = value.find("alpha");
  if (const auto alpha = map.find("alpha"); alpha && heeds && heeds->flag() && type && type->text() == "dynamic")
    rotary.theta *= std::pow(alpha->number(), static_cast<double>(rotary.dims) / static_cast<double>(rotary.dims - 2));
  if (!type || contains({"default", "mrope", "dynamic"}, type->text())) return rotary;
  const auto original_positions = [&] {
    const auto said = value.find("original_positions");
    const std::string key = "original_max_position_embeddings";
    const Value beside = said ? *said : value.in_config({"text_config." + key, key});
    if (!beside.is_null()) return beside.positive();  // they win, as in transformers
    const auto original = map.find(key);
    return original ? original->positive() : positions;
  };
  if (type->text() == "proportional") {  // the fraction of the pairs that turn, of all of a head
    rotary.scaling = Scaling::kProportional;
    rotary.turning = rotary.dims / 2;
    rotary.dims = head_dim;
    rotary.factor = map.number("factor", 1);
    return rotary;
  }
  // Its first files call it su, or yarn with these factors.
  if (contains({"longrope", "su"}, type->text()) || (type->text() == "yarn" && map.find("short_factor"))) {
    rotary.original_positions = original_positions();
    read_longrope(rotary, map, positions);
    return rotary;
  }
  if (!contains({"linear", "llama3", "yarn"}, type->text()))
    type->fail("a rope type of default, linear, dynamic, llama3, yarn, longrope or proportional");
  // A null is that of the positions, as DeepSeek has it.
  if (const auto factor = map.find_or_null("factor"); type->text() == "yarn" && factor && factor->is_null())
    rotary.factor = static_cast<double>(positions) / static_cast<double>(original_positions());
  else
    rotary.factor = map.at("factor").number();
  if (type->text() == "linear") {
    rotary.scaling = Scaling::kLinear;
    return rotary;
  }
  rotary.original_positions = original_positions();
  if (type->text() == "yarn") {
    read_yarn(rotary, map);
    return rotary;
  }
  rotary.scaling = Scaling::kLlama3;
  rotary.low_freq_factor = map.at("low_freq_factor").number();
  rotary.high_freq_factor = map.at("high_freq_factor").number();
  return rotary;
}

}  // namespace roundhouse
