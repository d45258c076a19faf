// SPDX-License-Identifier: Apache-2.0
#include "host/plan/scheme_resolver.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "host/base/error.h"
#include "host/base/suggest.h"
#include "host/base/words.h"

namespace roundhouse {
namespace {

using nlohmann::json;

constexpr int kDefaultBits = 4;
constexpr int kUnquantizedBits = 16;

struct Match {
  const DtypeRecord* record;
  std::string alias;  // "" for the id itself
  json fields = json::object();
};

std::optional<Match> find_exact(const Catalogue& catalogue, const std::string& name) {
  if (const DtypeRecord* record = catalogue.find_dtype(name)) {
    for (const auto& [alias, fields] : record->aliases)
      if (alias == name) return Match{record, alias, fields};
    return Match{record, "", json::object()};
  }
  for (const DtypeRecord* record : catalogue.dtypes())
    for (const auto& [alias, fields] : record->aliases)
      if (alias == name) return Match{record, alias, fields};
  return std::nullopt;
}

std::string text(const json& value) {
  if (!value.is_string()) throw Error(cat(value, " is not a name"));
  return value.get<std::string>();
}

// What is no field of schemes is an option of the data type `record`; without a record it is passed over.
void apply(TensorScheme& scheme, const json& fields, const std::string& whose, const DtypeRecord* record) {
  for (const auto& [key, value] : fields.items()) {
    const auto field = std::find_if(scheme_fields().begin(), scheme_fields().end(),
                                    [&](const SchemeField& f) { return f.set && key == f.key; });
    if (field == scheme_fields().end()) {
      if (!record) continue;
      const json own = record->options_schema.value("properties", json::object());
      if (own.contains(key)) {
        scheme.options[key] = value;
        continue;
      }
      std::vector<std::string> known;
      for (const SchemeField& f : scheme_fields())
        if (f.set) known.push_back(f.key);
      for (const auto& [option, schema] : own.items()) known.push_back(option);
      throw Error(cat(whose, ": there is no field \"", key, "\"", suggest(key, known)));
    }
    try {
      field->set(scheme, value);
    } catch (const Error& e) {
      throw Error(cat(whose, ": ", key, ": ", e.what()));
    }
  }
}

void require_agreement(const Match& match, const json& said) {
  for (const auto& [key, fixed] : match.fields.items()) {
    const auto other = said.find(key);
    if (other == said.end() || key == "options" || *other == fixed) continue;
    throw Error(cat("data type ", match.alias, " means ", match.record->id, " with ", key, " ", fixed, ", but ", key,
                    " ", *other, " was asked for"));
  }
}

std::optional<Match> find_by_stem(const Catalogue& catalogue, const std::string& name, const TensorScheme& scheme) {
  std::vector<std::string> stems;
  if (scheme.rounding == Rounding::kSearch) stems.push_back(cat("opt_rtn_", name));
  if (!is_tuned(scheme.rounding)) stems.push_back(cat("rtn_", name));
  if (scheme.group_rows > 1) stems.push_back(cat("block_", name));
  stems.push_back(name);
  const std::string bits = std::to_string(scheme.bits), symmetry = scheme.symmetric ? "_sym" : "_asym";
  for (const std::string& stem : stems)
    for (const std::string& spelling : {stem, stem + bits, stem + symmetry, stem + bits + symmetry})
      if (auto match = find_exact(catalogue, spelling)) return match;
  return std::nullopt;
}

// "int4": a name that ends in its bits.
std::optional<Match> find_with_bits(const Catalogue& catalogue, const std::string& name, TensorScheme scheme) {
  const size_t digits = name.find_last_not_of("0123456789") + 1;
  if (digits == 0 || name.size() - digits < 1 || name.size() - digits > 2) return std::nullopt;
  const std::string stem = name.substr(0, digits);
  scheme.bits = std::stoi(name.substr(digits));
  auto match = find_exact(catalogue, stem);
  if (!match) match = find_by_stem(catalogue, stem, scheme);
  if (!match) return std::nullopt;
  match->alias = name;
  match->fields["bits"] = scheme.bits;
  return match;
}

// Sorts a recipe's keys by side, without the activation's prefix.
void split(const json& fields, json& weight, json& activation) {
  weight = activation = json::object();
  for (const auto& [key, value] : fields.items()) {
    if (key.starts_with(kActivationPrefix))
      activation[key.substr(kActivationPrefix.size())] = value;
    else
      weight[key] = value;
  }
}

// The data type's name, taken out of the fields; "" when there is none.
std::string take_name(DtypeRequest& request) {
  std::string name;
  for (json* fields : {&request.assumed, &request.said}) {
    if (const auto found = fields->find("data_type"); found != fields->end()) name = text(*found);
    fields->erase("data_type");
  }
  return name;
}

bool says(const DtypeRequest& request, const char* key) {
  return request.said.contains(key) || request.assumed.contains(key);
}

bool says_unquantized(const DtypeRequest& request) {
  if (!says(request, "bits")) return false;
  TensorScheme scheme;
  apply(scheme, {{"bits", request.said.contains("bits") ? request.said["bits"] : request.assumed["bits"]}}, "scheme",
        nullptr);
  return scheme.bits >= kUnquantizedBits;
}

// "splt (did you mean split?), not one of ...": what `value` is and should be by the `enum` and `type` of its JSON Schema, the
// case of texts aside; empty: it is right, or the schema says it in other words.
std::string wrong_value(const json& schema, const json& value) {
  if (!schema.is_object()) return "";
  if (const auto choices = schema.find("enum"); choices != schema.end() && choices->is_array()) {
    std::vector<std::string> texts;
    for (const json& choice : *choices) {
      const bool same_text = choice.is_string() && value.is_string() &&
                             edit_distance(choice.get<std::string>(), value.get<std::string>()) == 0;
      if (choice == value || same_text) return "";
      texts.push_back(choice.is_string() ? choice.get<std::string>() : choice.dump());
    }
    const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
    return cat(text, suggest(text, texts), ", not one of ", joined(texts));
  }
  const std::string type = schema.value("type", json()).is_string() ? schema.at("type").get<std::string>() : "";
  const bool right = type == "boolean"   ? value.is_boolean()
                     : type == "integer" ? value.is_number_integer()
                     : type == "number"  ? value.is_number()
                     : type == "string"  ? value.is_string()
                                         : true;
  if (right) return "";
  return cat(value.dump(), ", not ",
             type == "boolean"   ? "true or false"
             : type == "integer" ? "a whole number"
             : type == "number"  ? "a number"
                                 : "a text");
}

}  // namespace

void check_options(const std::string& whose, const nlohmann::json& schema, const nlohmann::json& options) {
  std::vector<std::string> known;
  const nlohmann::json properties = schema.value("properties", nlohmann::json::object());
  for (const auto& [name, option] : properties.items()) known.push_back(name);
  for (const auto& [name, value] : options.items()) {
    if (!contains(known, name))
      throw Error(cat(whose, " has no option \"", name, "\"", suggest(name, known),
                      ". Its options: ", known.empty() ? "none" : joined(known)));
    if (const std::string wrong = wrong_value(properties.at(name), value); !wrong.empty())
      throw Error(cat("the option ", name, " of ", whose, " is ", wrong));
  }
}

TensorScheme resolve_dtype(const Catalogue& catalogue, const DtypeRequest& request) {
  TensorScheme scheme;
  scheme.bits = kDefaultBits;
  scheme.rounding = request.rounding;
  TensorScheme asked = scheme;
  apply(asked, request.assumed, "scheme", nullptr);
  apply(asked, request.said, "scheme", nullptr);

  auto match = find_exact(catalogue, request.name);
  if (!match) match = find_by_stem(catalogue, request.name, asked);
  if (!match) match = find_with_bits(catalogue, request.name, asked);
  if (!match) catalogue.fail_unknown_dtype(request.name);
  require_agreement(*match, request.said);
  scheme.dtype = match->record->id;
  apply(scheme, request.assumed, "scheme", match->record);
  apply(scheme, match->fields, cat("alias ", match->alias, " of ", match->record->plugin.string()), match->record);
  apply(scheme, request.said, "scheme", match->record);
  check_options(cat("the data type ", scheme.dtype), match->record->options_schema, scheme.options);
  return scheme;
}

Scheme resolve_scheme(const Catalogue& catalogue, const json& said, const json& assumed, Rounding rounding) {
  DtypeRequest weight{"", {}, {}, rounding}, activation{"", {}, {}, Rounding::kPlain};
  split(assumed, weight.assumed, activation.assumed);
  split(said, weight.said, activation.said);
  weight.name = take_name(weight);
  activation.name = take_name(activation);

  Scheme scheme;
  if (!says_unquantized(weight)) {
    if (weight.name.empty()) throw Error("the scheme has no data_type");
    scheme.weight = resolve_dtype(catalogue, weight);
    if (scheme.weight->bits >= kUnquantizedBits) scheme.weight.reset();
  }
  if (says_unquantized(activation) || (activation.name.empty() && !says(activation, "bits"))) return scheme;
  if (activation.name.empty()) activation.name = weight.name;
  if (activation.name.empty()) throw Error("the scheme has no act_data_type");
  json defaults{{"bits", kUnquantizedBits}};
  if (scheme.weight) defaults.update({{"group_size", group_size(*scheme.weight)}, {"sym", scheme.weight->symmetric}});
  defaults.update(activation.assumed);
  activation.assumed = std::move(defaults);
  scheme.activation = resolve_dtype(catalogue, activation);
  if (scheme.activation->bits >= kUnquantizedBits) scheme.activation.reset();
  return scheme;
}

}  // namespace roundhouse
