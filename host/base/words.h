// SPDX-License-Identifier: Apache-2.0
// Words as messages show them.
#pragma once

#include <algorithm>
#include <cassert>
#include <cctype>
#include <string>
#include <string_view>
#include <vector>

namespace roundhouse {

// "a, b"; "none" for an empty list.
inline std::string joined(const std::vector<std::string>& words) {
  std::string all;
  for (const std::string& word : words) all += (all.empty() ? "" : ", ") + word;
  return all.empty() ? "none" : all;
}

// As joined(); of more than `most` the others are counted: "a, b, 3 more".
inline std::string joined(std::vector<std::string> words, size_t most) {
  if (words.size() > most) {
    const std::string more = std::to_string(words.size() - most) + " more";
    words.resize(most);
    words.push_back(more);
  }
  return joined(words);
}

// "a", "a and b", "a and 3 others". REQUIRES: !names.empty().
inline std::string first_of(const std::vector<std::string>& names) {
  assert(!names.empty());
  if (names.size() == 1) return names[0];
  return names[0] + " and " + (names.size() == 2 ? names[1] : std::to_string(names.size() - 1) + " others");
}

// A word for a shell's command line, in quotation marks where it needs them.
inline std::string shell_quoted(const std::string& word) {
  const auto plain = [](unsigned char c) {
    return c >= 0x80 || std::isalnum(c) ||
           std::string_view("_-./,:=@%+").find(static_cast<char>(c)) != std::string::npos;
  };
  if (!word.empty() && std::all_of(word.begin(), word.end(), plain)) return word;
  std::string quoted = "'";
  for (const char c : word) quoted += c == '\'' ? "'\\''" : std::string(1, c);
  return quoted + "'";
}

// `text` with each `from` made `to`. REQUIRES: !from.empty().
inline std::string replaced(std::string text, const std::string& from, const std::string& to) {
  assert(!from.empty());
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
  return text;
}

inline bool contains(const std::vector<std::string>& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

}  // namespace roundhouse
