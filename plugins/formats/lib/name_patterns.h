// SPDX-License-Identifier: Apache-2.0
// Lists of module names in which one pattern stands for all experts' modules.
#pragma once

#include <string>
#include <vector>

namespace roundhouse::formats {

// `names`, in which "re:" and a regular expression, matched from a name's beginning, stands for names that have a
// block's and an expert's number and differ in these alone. It matches those of `names` and none of `others`: where only
// some blocks' are among `names`, there is a pattern for each of those; where only some experts' are, their names stay.
std::vector<std::string> with_patterns(const std::vector<std::string>& names, const std::vector<std::string>& others);

}  // namespace roundhouse::formats
