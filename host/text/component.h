// SPDX-License-Identifier: Apache-2.0
// Reading the components of tokenizer.json (normalizer, pre-tokenizer, ...) with messages that say where.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "host/text/regex.h"

namespace roundhouse {

// What a Replace or a Split looks for: a literal text (never empty) or a regular expression.
class Pattern {
 public:
  explicit Pattern(std::string literal) : pattern_(std::move(literal)) {}
  explicit Pattern(Regex regex) : pattern_(std::move(regex)) {}
  std::vector<Span> spans(std::string_view text) const;

 private:
  std::variant<std::string, Regex> pattern_;
};

// One JSON object of tokenizer.json. It borrows the JSON. Every member throws Error naming file, place, type and key.
class Component {
 public:
  Component(const nlohmann::json& json, std::string file, std::string place);

  // The value of "type"; empty when there is none.
  const std::string& type() const { return type_; }
  const nlohmann::json& json() const { return json_; }

  std::string text(const char* key) const;
  char32_t character(const char* key) const;  // a string of exactly one character
  size_t count(const char* key) const;
  bool flag(const char* key) const;
  bool flag(const char* key, bool absent) const;
  Pattern pattern(const char* key) const;              // {"String": ...} or {"Regex": ...}
  std::vector<Component> list(const char* key) const;  // an array of components

  [[noreturn]] void fail(const std::string& problem) const;
  // For a type that this host does not read; `supported` lists those of the place that it does.
  [[noreturn]] void unsupported(std::string_view supported) const;

 private:
  const nlohmann::json& at(const char* key) const;

  const nlohmann::json& json_;
  std::string file_;
  std::string place_;  // "pre_tokenizer.pretokenizers[1]"
  std::string type_;
};

}  // namespace roundhouse
