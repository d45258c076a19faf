// SPDX-License-Identifier: Apache-2.0
// The numbers in tensors' names.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <string>
#include <vector>

namespace roundhouse {

struct NameNumber {
  size_t begin = 0, end = 0;  // where it is in the name
  int64_t value = 0;
};

// The parts of a name between its dots that are numbers, without a sign, but for the first part: 0 and 3 of
// "model.layers.0.mlp.experts.3.up_proj".
inline std::vector<NameNumber> numbers_in(const std::string& name) {
  std::vector<NameNumber> numbers;
  for (size_t begin = std::min(name.find('.'), name.size()); begin < name.size();) {
    const size_t end = std::min(name.find('.', ++begin), name.size());
    uint32_t value = 0;
    const auto [rest, error] = std::from_chars(name.data() + begin, name.data() + end, value);
    if (error == std::errc() && rest == name.data() + end) numbers.push_back({begin, end, value});
    begin = end;
  }
  return numbers;
}

}  // namespace roundhouse
