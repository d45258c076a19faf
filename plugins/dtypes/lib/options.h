// SPDX-License-Identifier: Apache-2.0
// A data type's own options, from the scheme's options_json, compared as JSON values. Everything throws rh::Error for what
// is not known.
#pragma once

#include <string>
#include <utility>
#include <vector>

// Each option with the values that it may have, written as JSON or, for texts, without quotes; none: any positive number.
using OptionChoices = std::vector<std::pair<std::string, std::vector<std::string>>>;

// The value of each option in `choices`, its first allowed value when it is not given.
class Options {
 public:
  Options(const char* dtype, const char* options_json, const OptionChoices& choices);
  const std::string& operator[](const std::string& key) const;
  // REQUIRES: the option is a number.
  double number(const std::string& key, double otherwise) const;

 private:
  std::vector<std::pair<std::string, std::string>> values_;
};
