// Words as messages show them.
#pragma once

#include <algorithm>
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

inline bool contains(const std::vector<std::string>& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

}  // namespace roundhouse
