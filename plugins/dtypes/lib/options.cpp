// SPDX-License-Identifier: Apache-2.0
#include "plugins/dtypes/lib/options.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <nlohmann/json.hpp>
#include <roundhouse/error.hpp>

namespace {

std::string list(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

}  // namespace

Options::Options(const char* dtype, const char* options_json, const OptionChoices& choices) {
  const std::string name = dtype;
  const auto json = nlohmann::json::parse(options_json, nullptr, false);
  rh::require(json.is_object(), name + ": the options are no JSON object");
  for (const auto& [key, value] : json.items()) {
    const auto known = std::find_if(choices.begin(), choices.end(), [&](const auto& c) { return c.first == key; });
    std::vector<std::string> keys;
    for (const auto& choice : choices) keys.push_back(choice.first);
    rh::require(known != choices.end(),
                name + " has no option \"" + key + "\"; it has " + (keys.empty() ? "none" : list(keys)));
    const auto& allowed = known->second;
    const std::string given = value.is_string() ? value.get<std::string>() : value.dump();
    if (allowed.empty())
      rh::require(value.is_number() && value.get<double>() > 0 && std::isfinite(value.get<double>()),
                  name + ": option " + key + " is " + given + "; it must be a positive number");
    else
      rh::require(std::find(allowed.begin(), allowed.end(), given) != allowed.end(),
                  name + ": option " + key + " is " + given + "; it may be " + list(allowed));
    values_.push_back({key, given});
  }
  for (const auto& [key, allowed] : choices)
    values_.push_back({key, allowed.empty() ? "" : allowed.front()});  // found last
}

const std::string& Options::operator[](const std::string& key) const {
  return std::find_if(values_.begin(), values_.end(), [&](const auto& v) { return v.first == key; })->second;
}

double Options::number(const std::string& key, double otherwise) const {
  const std::string& value = (*this)[key];
  assert(value.find_first_not_of("+-.0123456789Ee") == std::string::npos);
  return value.empty() ? otherwise : std::stod(value);
}
