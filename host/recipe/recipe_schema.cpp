// SPDX-License-Identifier: Apache-2.0
#include "host/recipe/recipe_schema.h"

#include <cctype>
#include <chrono>
#include <regex>
#include <stdexcept>

#include "host/base/error.h"
#include "host/base/scheme.h"
#include "host/recipe/recipe.h"
#include "host/recipe/recipe_fields.h"
#include "recipes_md.h"

namespace roundhouse {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

// What docs/recipes.md says of a key: the last cell of its row, with the words of its links alone.
std::string meaning(const std::string& key) {
  const std::string document = kDocument;
  const size_t row = document.find(cat("\n| `", key, "` |"));
  if (row == std::string::npos) throw std::logic_error("docs/recipes.md has no row for the key " + key);
  const size_t end = document.rfind(" |", document.find('\n', row + 1)), begin = document.rfind("| ", end - 1) + 2;
  if (begin > end) return "";
  return std::regex_replace(document.substr(begin, end - begin), std::regex("\\[([^\\]]*)\\]\\([^)]*\\)"), "$1");
}

ordered_json described(const std::string& key, ordered_json schema) {
  if (std::string text = meaning(key); !text.empty()) schema["description"] = std::move(text);
  return schema;
}

ordered_json object(ordered_json properties, const std::vector<std::string>& required = {}) {
  ordered_json schema = {{"type", "object"}, {"properties", std::move(properties)}, {"additionalProperties", false}};
  if (!required.empty()) schema["required"] = required;
  return schema;
}

ordered_json text() { return {{"type", "string"}}; }
ordered_json integer(int64_t least, int64_t most) {
  return {{"type", "integer"}, {"minimum", least}, {"maximum", most}};
}
ordered_json defined(const char* name) { return {{"$ref", cat("#/definitions/", name)}}; }

// One of these, in any case.
ordered_json name_of(const std::vector<std::string>& names) {
  std::string pattern;
  for (const std::string& name : names) {
    pattern += pattern.empty() ? "^(" : "|";
    for (const unsigned char c : name) {
      if (std::isalpha(c))
        pattern += {'[', static_cast<char>(std::toupper(c)), static_cast<char>(std::tolower(c)), ']'};
      else
        pattern += std::string(std::isalnum(c) || c == '_' || c == ':' ? "" : "\\") + static_cast<char>(c);
    }
  }
  return {{"anyOf", {{{"enum", names}}, {{"type", "string"}, {"pattern", pattern + ")$"}}}}};
}

// Describes the members of a section: a visitor of recipe_fields.h.
class FieldDescriber {
 public:
  explicit FieldDescriber(const char* section) : section_(section) {}

  void operator()(const char* key, const int64_t& field, int64_t least, int64_t most = kMaxCount) {
    ordered_json schema = integer(least, most);
    schema["default"] = field;
    add(key, schema);
  }
  void operator()(const char* key, const bool& field) { add(key, {{"type", "boolean"}, {"default", field}}); }
  template <typename Enum>
  void operator()(const char* key, const Enum& field, const ValueNames& names) {
    add(key, {{"enum", names}, {"default", names[static_cast<size_t>(field)]}});
  }
  template <typename Enum>
  void operator()(const char* key, const std::optional<Enum>&, const ValueNames& names) {
    add(key, {{"enum", {"auto", names[0], names[1]}}, {"default", "auto"}});
  }
  void operator()(const char* key, const std::optional<double>&) {
    add(key, {{"anyOf", {{{"const", "auto"}}, {{"type", "number"}, {"minimum", 0}}}}, {"default", "auto"}});
  }
  void operator()(const char* key, const std::optional<std::string>&) { add(key, text()); }
  void operator()(const char* key, const std::filesystem::path&) {
    add(key, text());
    required_.push_back(key);
  }
  void operator()(const char* key, const std::vector<DataFile>&) { add(key, defined("texts")); }
  void operator()(const char* key, const std::chrono::year_month_day&) {
    add(key, {{"type", "string"}, {"pattern", "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$"}});
  }

  ordered_json schema() const {
    ordered_json section = object(properties_, required_);
    if (required_.empty()) section["type"] = {"object", "null"};
    return section;
  }

 private:
  void add(const char* key, ordered_json schema) { properties_[key] = described(cat(section_, ".", key), schema); }

  const char* section_;
  ordered_json properties_ = ordered_json::object();
  std::vector<std::string> required_;
};

template <typename Section>
ordered_json section(const char* name, auto fields) {
  FieldDescriber describer(name);
  const Section defaults;
  fields(defaults, describer);
  return describer.schema();
}

ordered_json texts() {
  const auto list = [](ordered_json items) {
    return ordered_json{{"type", "array"}, {"items", std::move(items)}, {"minItems", 1}};
  };
  const ordered_json share = {{"type", "number"}, {"exclusiveMinimum", 0}};
  return {{"anyOf",
           {text(), list({{"anyOf", {text(), object({{"file", text()}}, {"file"})}}}),
            list(object({{"file", text()}, {"share", share}}, {"file", "share"}))}}};
}

ordered_json scheme_value(SchemeField::Kind kind) {
  switch (kind) {
    case SchemeField::Kind::kName:
      return text();
    case SchemeField::Kind::kBits:
      return integer(1, kMaxBits);
    case SchemeField::Kind::kGroupSize:
      return {{"anyOf",
               {integer(-1, kMaxGroup),
                {{"type", "array"}, {"items", integer(1, kMaxGroup)}, {"minItems", 2}, {"maxItems", 2}}}}};
    case SchemeField::Kind::kFlag:
      return {{"type", "boolean"}};
    case SchemeField::Kind::kElementType:
      return {{"enum", {"float16", "bfloat16", "float32"}}};
    case SchemeField::Kind::kAmount:
      return {{"type", "number"}, {"minimum", 0}};
    case SchemeField::Kind::kOptions:
      return {{"type", {"object", "null"}}};
  }
  throw std::logic_error("a field of no kind");
}

ordered_json scheme_properties() {
  ordered_json properties;
  for (const auto& [side, prefix] :
       {std::pair{SchemeField::kWeight, std::string()}, {SchemeField::kActivation, std::string(kActivationPrefix)}})
    for (const SchemeField& field : scheme_fields())
      if (field.said & side) properties[prefix + field.key] = described(prefix + field.key, scheme_value(field.kind));
  return properties;
}

// What follows for `options` from the data type that stands beside them.
ordered_json option_rules(const std::vector<RecipeNames::Named>& dtypes) {
  ordered_json rules = ordered_json::array();
  for (const auto& [names, options] : dtypes)
    if (options.contains("properties"))
      rules.push_back({{"if", {{"properties", {{"data_type", {{"enum", names}}}}}, {"required", {"data_type"}}}},
                       {"then", {{"properties", {{"options", options}}}}}});
  return rules;
}

ordered_json scheme(const RecipeNames& names) {
  ordered_json properties = {{"preset", described("preset", name_of(names.presets))}};
  properties.update(scheme_properties());
  ordered_json map = object(std::move(properties));
  map["allOf"] = option_rules(names.dtypes);
  return {{"anyOf", {name_of(names.presets), std::move(map)}}};
}

ordered_json size() {
  return {
      {"anyOf", {{{"type", "integer"}, {"minimum", 1}}, {{"type", "string"}, {"pattern", "^[0-9.]+ *([KMGT]i?)?B$"}}}}};
}

ordered_json mix() {
  ordered_json target = size();
  target["anyOf"].push_back({{"type", "string"}, {"pattern", "^[0-9.]+ *bits$"}});
  return object(
      {{"mix",
        described("mix", {{"type", "array"}, {"items", defined("scheme")}, {"minItems", 2}, {"uniqueItems", true}})},
       {"target", described("target", std::move(target))}},
      {"mix", "target"});
}

ordered_json layer(const RecipeNames& names) {
  ordered_json keep =
      object({{"match", described("match", text())}, {"scheme", {{"const", kKeepScheme}}}}, {"match", "scheme"});
  ordered_json properties = {{"match", described("match", text())}, {"scheme", defined("scheme")}};
  properties.update(scheme_properties());
  ordered_json change = object(std::move(properties), {"match"});
  change["allOf"] = option_rules(names.dtypes);
  return {{"anyOf", {std::move(change), std::move(keep)}}};
}

ordered_json formats(const std::vector<RecipeNames::Named>& formats) {
  ordered_json choices = ordered_json::array();
  std::vector<std::string> all;
  for (const auto& [names, options] : formats) {
    all.insert(all.end(), names.begin(), names.end());
    ordered_json properties = {{"id", {{"enum", names}}}};
    const json known = options.value("properties", json::object());
    for (const auto& [key, value] : known.items()) properties[key] = value;
    choices.push_back(object(std::move(properties), {"id"}));
  }
  choices.insert(choices.begin(), ordered_json{{"enum", all}});
  return {{"type", "array"}, {"items", {{"anyOf", std::move(choices)}}}, {"minItems", 1}, {"uniqueItems", true}};
}

}  // namespace

ordered_json recipe_schema(const RecipeNames& names) {
  ordered_json imatrix =
      object({{"file", described("imatrix.file", text())}, {"save", described("imatrix.save", text())}});
  imatrix["not"] = {{"required", {"file", "save"}}};
  ordered_json properties = {
      {"version", described("version", {{"const", kRecipeVersion}})},
      {"model", described("model", text())},
      {"tokenizer", described("tokenizer", text())},
      {"architecture", described("architecture", {{"enum", names.architectures}})},
      {"output", described("output", text())},
      {"scheme", described("scheme", {{"anyOf", {defined("scheme"), mix()}}})},
      {"layers", described("layers", {{"type", {"array", "null"}}, {"items", layer(names)}})},
      {"calibration", section<Calibration>("calibration", kCalibrationFields)},
      {"tuning", section<Tuning>("tuning", kTuningFields)},
      {"imatrix", std::move(imatrix)},
      {"formats", described("formats", formats(names.formats))},
      {"device",
       described("device", {{"type", "string"}, {"pattern", "^(auto|cpu|cuda(:[0-9]+)?)$"}, {"default", "auto"}})},
      {"evaluation", section<Evaluation>("evaluation", kEvaluationFields)},
      {"threads", described("threads", integer(0, kMaxThreads))},
      {"memory", described("memory", size())},
      {"max_shard_size", described("max_shard_size", size())}};
  ordered_json schema = {{"$schema", "http://json-schema.org/draft-07/schema#"}, {"title", "A recipe of Roundhouse"}};
  schema.update(object(std::move(properties), {"version", "model", "output", "scheme", "formats"}));
  schema["definitions"] = {{"scheme", scheme(names)}, {"texts", texts()}};
  return schema;
}

}  // namespace roundhouse
