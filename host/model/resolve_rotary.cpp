// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "host/base/error.h"
#include "host/base/words.h"
#include "host/model/resolve_parts.h"

namespace roundhouse {
namespace {

using Scaling = RotaryInfo::Scaling;

// The members of config.json's map of rotary parameters; none where it is absent, or each is null.
class RotaryMap {
 public:
  explicit RotaryMap(const Value& map) : map_(map), empty_(says_nothing(map)) {}

  std::optional<Value> find(std::string_view key) const {
    const auto value = empty_ ? std::nullopt : map_.find(key);
    return value && value->is_null() ? std::nullopt : value;
  }
  double number(const char* key, double otherwise) const {
    const auto value = find(key);
    return value ? value->number() : otherwise;
  }
  double number(const char* key) const { return map_.at(key).number(); }
  std::vector<double> numbers(const char* key, int64_t count) const {
    const Value list = map_.at(key);
    std::vector<double> all;
    for (const Value& value : list.items()) all.push_back(value.number());
    if (static_cast<int64_t>(all.size()) != count) list.fail(cat(count, " numbers, one for each pair of features,"));
    return all;
  }
  const Value& value() const { return map_; }
  bool empty() const { return empty_; }

 private:
  static bool says_nothing(const Value& map) {
    const auto members = map.is_map() ? map.members() : std::vector<std::pair<std::string, Value>>();
    return map.is_null() || (map.is_map() && std::all_of(members.begin(), members.end(),
                                                         [](const auto& member) { return member.second.is_null(); }));
  }

  const Value map_;
  const bool empty_;
};

// YaRN's section 3.4; with mscale as DeepSeek writes it.
void read_yarn(RotaryInfo& rotary, const RotaryMap& map) {
  const auto temperature = [&](double scale) { return 0.1 * scale * std::log(std::max(rotary.factor, 1.0)) + 1; };
  const double scale = map.number("mscale", 0), scale_of_all = map.number("mscale_all_dim", 0);
  rotary.scaling = Scaling::kYarn;
  rotary.beta_fast = map.number("beta_fast", rotary.beta_fast);
  rotary.beta_slow = map.number("beta_slow", rotary.beta_slow);
  if (const auto truncate = map.find("truncate")) rotary.truncate = truncate->flag();
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

}  // namespace

// `scaling` is config.json's map of rotary parameters. In the style of transformers 4 it holds the scaling alone, in
// that of 5 theta and the rotated fraction too; the map wins over the keys beside it, but for an empty one.
RotaryInfo read_rotary(const Value& value, const Value& sizes, int64_t head_dim, int64_t positions) {
  value.only({"theta", "fraction", "dims", "scaling", "interleaved", "original_positions", "when", "unless"});
  const RotaryMap map(value.at("scaling"));
  const auto theta = map.find("rope_theta");
  auto type = map.find("rope_type");
  if (!type) type = map.find("type");
  if (!map.empty() && !theta && !type) map.value().fail("a map with rope_theta or rope_type, for all blocks alike,");

  RotaryInfo rotary;
  rotary.theta = (theta ? *theta : value.at("theta")).number();
  if (const auto interleaved = value.find("interleaved")) rotary.interleaved = interleaved->flag();
  auto fraction = value.find("fraction");
  // A family without a fraction turns whole heads, as in transformers, unless the positions are scaled.
  if (fraction || (type && type->text() != "default"))
    if (const auto said = map.find("partial_rotary_factor")) fraction = said;
  rotary.dims = static_cast<int64_t>(static_cast<double>(head_dim) * (fraction ? fraction->number() : 1.0));
  if (const auto dims = value.find("dims"); dims && !dims->is_null()) rotary.dims = dims->positive();
  if (rotary.dims <= 0 || rotary.dims > head_dim || rotary.dims % 2 != 0)
    (fraction ? *fraction : sizes.at("head_dim")).fail("what leaves an even number of rotary features");

  // mrope turns the features of images' positions; for a text all three positions are equal.
  // dynamic changes nothing up to the positions that the model knows, but for an alpha.
  if (const auto alpha = map.find("alpha"); alpha && type && type->text() == "dynamic")
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
  rotary.factor = map.number("factor");
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
  rotary.low_freq_factor = map.number("low_freq_factor");
  rotary.high_freq_factor = map.number("high_freq_factor");
  return rotary;
}

}  // namespace roundhouse
