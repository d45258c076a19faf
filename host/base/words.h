// Lists of words, as messages show them.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

namespace roundhouse {

// "a, b"; "none" for an empty list.
inline std::string joined(const std::vector<std::string>& words) {
  std::string all;
  for (const std::string& word : words) all += (all.empty() ? "" : ", ") + word;
  return all.empty() ? "none" : all;
}

inline bool contains(const std::vector<std::string>& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

}  // namespace roundhouse
