// SPDX-License-Identifier: Apache-2.0
#include "plugins/formats/lib/name_patterns.h"

#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <string_view>

namespace roundhouse::formats {
namespace {

constexpr const char* kNumber = "\\d+";

std::string escaped(const std::string& text) {
  std::string all;
  for (const char c : text) {
    if (std::string_view(R"(\^$.|?*+()[]{})").find(c) != std::string_view::npos) all += '\\';
    all += c;
  }
  return all;
}

// The patterns of a name with two numbers or more: with any numbers, and with any in the last one's place.
struct Patterns {
  std::string any, any_last;
};

std::optional<Patterns> patterns_of(const std::string& name) {
  std::vector<std::string> parts;
  std::vector<size_t> numbers;
  std::istringstream stream(name);
  for (std::string part; std::getline(stream, part, '.');) {
    if (part.find_first_not_of("0123456789") == std::string::npos) numbers.push_back(parts.size());
    parts.push_back(part);
  }
  if (numbers.size() < 2) return std::nullopt;
  const auto joined = [&] {
    std::string text = "re:";
    for (const std::string& part : parts)
      text += (text.size() > 3 ? "\\." : "") + (part == kNumber ? part : escaped(part));
    return text + "$";
  };
  Patterns patterns;
  parts[numbers.back()] = kNumber;
  patterns.any_last = joined();
  for (const size_t number : numbers) parts[number] = kNumber;
  patterns.any = joined();
  return patterns;
}

}  // namespace

std::vector<std::string> with_patterns(const std::vector<std::string>& names, const std::vector<std::string>& others) {
  std::set<std::string> taken;  // patterns that match one of the others
  for (const std::string& name : others)
    if (const auto patterns = patterns_of(name)) taken.insert({patterns->any, patterns->any_last});
  std::map<std::string, int64_t> counts;
  for (const std::string& name : names)
    if (const auto patterns = patterns_of(name)) {
      ++counts[patterns->any];
      ++counts[patterns->any_last];
    }
  std::vector<std::string> shorter;
  std::set<std::string> written;
  for (const std::string& name : names) {
    std::string entry = name;
    if (const auto patterns = patterns_of(name))
      for (const std::string& pattern : {patterns->any_last, patterns->any})  // the wider one wins
        if (!taken.contains(pattern) && counts[pattern] > 1) entry = pattern;
    if (entry == name || written.insert(entry).second) shorter.push_back(entry);
  }
  return shorter;
}

}  // namespace roundhouse::formats
