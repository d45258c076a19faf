// SPDX-License-Identifier: Apache-2.0
// Regular expressions in Oniguruma's syntax, over UTF-8, and the patterns of tokenizer.json made of them.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace roundhouse {

// A part of a text: a match of a pattern, or what lies between two.
struct Span {
  size_t begin;
  size_t end;
  bool match;
};

// Thread-safe once built.
class Regex {
 public:
  // Throws Error with the reason when the expression is not valid.
  explicit Regex(const std::string& expression);

  // The text cut into matches and what lies between them, in order. An empty match right after another is skipped.
  // Throws Error when the engine gives up (its limit on backtracking).
  std::vector<Span> spans(std::string_view text) const;

 private:
  struct Program;
  std::shared_ptr<const Program> program_;
};

}  // namespace roundhouse
