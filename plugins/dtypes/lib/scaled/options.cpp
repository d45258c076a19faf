#include "plugins/dtypes/lib/scaled/options.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <roundhouse/plugin.hpp>

namespace {

std::string list(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

}  // namespace

Options::Options(const char* dtype, const char* options_json, const OptionChoices& choices) {
  const auto json = nlohmann::json::parse(options_json, nullptr, false);
  rh::require(json.is_object(), std::string(dtype) + ": the options are no JSON object");
  for (const auto& [key, value] : json.items()) {
    const auto known = std::find_if(choices.begin(), choices.end(), [&](const auto& c) { return c.first == key; });
    std::vector<std::string> keys;
    for (const auto& choice : choices) keys.push_back(choice.first);
    rh::require(known != choices.end(),
                std::string(dtype) + " has no option \"" + key + "\"; it has " + (keys.empty() ? "none" : list(keys)));
    const auto& allowed = known->second;
    const std::string said = value.is_string() ? value.get<std::string>() : value.dump();
    rh::require(std::find(allowed.begin(), allowed.end(), said) != allowed.end(),
                std::string(dtype) + ": option " + key + " is " + said + "; it may be " + list(allowed));
    values_.push_back({key, said});
  }
  for (const auto& [key, allowed] : choices) values_.push_back({key, allowed.front()});  // found last
}

const std::string& Options::operator[](const std::string& key) const {
  return std::find_if(values_.begin(), values_.end(), [&](const auto& v) { return v.first == key; })->second;
}
