// SPDX-License-Identifier: Apache-2.0
// "Did you mean": the known word nearest to one that is not known.
#pragma once

#include <algorithm>
#include <cctype>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

namespace roundhouse {

// Insertions, deletions and substitutions that turn `a` into `b` (Levenshtein), whatever their case.
inline size_t edit_distance(std::string_view a, std::string_view b) {
  const auto lower = [](unsigned char c) { return std::tolower(c); };
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0]++;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t substituted = diagonal + (lower(a[i]) == lower(b[j]) ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({substituted, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

// Whether `name` is `end` behind a mark, whatever their case: "GGUF:Q8_0" and "q8_0".
inline bool ends_with_part(std::string_view name, std::string_view end) {
  if (end.empty() || name.size() <= end.size()) return false;
  const size_t at = name.size() - end.size();
  return (name[at - 1] == ':' || name[at - 1] == '_') && edit_distance(name.substr(at), end) == 0;
}

// " (did you mean X?)" for the one of `known` whose last part `word` is, else for the nearest, or "" when none is within a
// third of the word's length.
inline std::string suggest(std::string_view word, const std::vector<std::string>& known) {
  size_t best = std::max<size_t>(2, word.size() / 3) + 1;
  const std::string* nearest = nullptr;
  for (const std::string& candidate : known) {
    const size_t distance = ends_with_part(candidate, word) ? 0 : edit_distance(word, candidate);
    if (distance >= best || distance >= candidate.size()) continue;
    best = distance;
    nearest = &candidate;
  }
  return nearest ? " (did you mean " + *nearest + "?)" : std::string();
}

}  // namespace roundhouse
