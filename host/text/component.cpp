// SPDX-License-Identifier: Apache-2.0
#include "host/text/component.h"

#include "host/base/error.h"
#include "host/text/unicode.h"

namespace roundhouse {
namespace {

std::vector<Span> literal_spans(std::string_view text, std::string_view literal) {
  std::vector<Span> spans;
  size_t covered = 0;
  for (size_t at = text.find(literal); at != text.npos; at = text.find(literal, covered)) {
    if (covered < at) spans.push_back({covered, at, false});
    spans.push_back({at, at + literal.size(), true});
    covered = at + literal.size();
  }
  if (covered < text.size()) spans.push_back({covered, text.size(), false});
  return spans;
}

}  // namespace

std::vector<Span> Pattern::spans(std::string_view text) const {
  if (const auto* literal = std::get_if<std::string>(&pattern_)) return literal_spans(text, *literal);
  return std::get<Regex>(pattern_).spans(text);
}

Component::Component(const nlohmann::json& json, std::string file, std::string place)
    : json_(json), file_(std::move(file)), place_(std::move(place)) {
  if (!json.is_object()) fail("is not a JSON object");
  if (json.contains("type")) type_ = text("type");
}

const nlohmann::json& Component::at(const char* key) const {
  const auto found = json_.find(key);
  if (found == json_.end()) fail(cat("has no \"", key, "\""));
  return *found;
}

std::string Component::text(const char* key) const {
  const nlohmann::json& value = at(key);
  if (!value.is_string()) fail(cat("\"", key, "\" is not a string"));
  return value.get<std::string>();
}

char32_t Component::character(const char* key) const {
  const std::string value = text(key);
  size_t end = 0;
  const char32_t c = value.empty() ? 0 : unicode::next(value, end);
  if (value.empty() || end != value.size()) fail(cat("\"", key, "\" is not one character"));
  return c;
}

size_t Component::count(const char* key) const {
  const nlohmann::json& value = at(key);
  if (!value.is_number_integer() || value.get<int64_t>() < 0) fail(cat("\"", key, "\" is not a count"));
  return value.get<size_t>();
}

bool Component::flag(const char* key) const {
  const nlohmann::json& value = at(key);
  if (!value.is_boolean()) fail(cat("\"", key, "\" is neither true nor false"));
  return value.get<bool>();
}

bool Component::flag(const char* key, bool absent) const {
  const auto found = json_.find(key);
  return found == json_.end() || found->is_null() ? absent : flag(key);
}

Pattern Component::pattern(const char* key) const {
  const nlohmann::json& value = at(key);
  if (value.is_object() && value.size() == 1 && value.front().is_string()) {
    const auto content = value.front().get<std::string>();
    if (value.contains("String")) {
      if (content.empty()) fail(cat("\"", key, "\" is an empty string, which matches everywhere"));
      return Pattern(content);
    }
    if (value.contains("Regex")) {
      try {
        return Pattern(Regex(content));
      } catch (const Error& error) {
        fail(cat("\"", key, "\": ", error.what()));
      }
    }
  }
  fail(cat("\"", key, "\" is neither {\"String\": ...} nor {\"Regex\": ...}"));
}

std::vector<Component> Component::list(const char* key) const {
  const nlohmann::json& value = at(key);
  if (!value.is_array()) fail(cat("\"", key, "\" is not a list"));
  std::vector<Component> components;
  for (size_t i = 0; i < value.size(); ++i)
    components.emplace_back(value[i], file_, cat(place_, ".", key, "[", i, "]"));
  return components;
}

void Component::fail(const std::string& problem) const {
  throw Error(cat(file_, ": ", place_, type_.empty() ? "" : " of type ", type_, ": ", problem));
}

void Component::unsupported(std::string_view supported) const {
  fail(cat(type_.empty() ? "has no \"type\"" : "this type is not supported", "; supported are ", supported));
}

}  // namespace roundhouse
