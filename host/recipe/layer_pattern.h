// SPDX-License-Identifier: Apache-2.0
// What a recipe's `match` means: a layer's exact name, or a regular expression over all of it.
#pragma once

#include <memory>
#include <string>

namespace roundhouse {

// Immutable; safe to use from several threads.
class LayerPattern {
 public:
  // "model.layers.0.mlp.up_proj", or "re:" and an expression in Python's syntax. Throws Error with the reason when the
  // expression is not valid.
  explicit LayerPattern(std::string text);

  // The text as a part of an expression that matches it alone.
  static std::string quoted(const std::string& text);

  // Throws Error when the expression backtracks beyond the engine's limit.
  bool matches(const std::string& layer) const;
  bool is_regex() const { return regex_ != nullptr; }
  const std::string& text() const { return text_; }

  bool operator==(const LayerPattern& other) const { return text_ == other.text_; }

 private:
  struct Regex;

  std::string text_;
  std::shared_ptr<const Regex> regex_;
};

}  // namespace roundhouse
