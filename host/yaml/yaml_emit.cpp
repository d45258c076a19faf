// SPDX-License-Identifier: Apache-2.0
#include <strings.h>

#include <algorithm>
#include <iterator>
#include <string_view>
#include <utility>

#include "host/base/error.h"
#include "host/yaml/yaml.h"

namespace roundhouse::yaml {
namespace {

using nlohmann::ordered_json;

constexpr const char* kNoText[] = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"};

// Without quotes, by any YAML reader: many take yes, no, on and off for booleans.
bool reads_back_as_text(const std::string& text) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  const auto safe = [&](char c) {
    return letter(c) || (c >= '0' && c <= '9') || std::string_view("_./-").find(c) != std::string_view::npos;
  };
  if (text.empty() || !(letter(text[0]) || text[0] == '/') || !std::all_of(text.begin(), text.end(), safe))
    return false;
  return std::none_of(std::begin(kNoText), std::end(kNoText),
                      [&](const char* word) { return strcasecmp(text.c_str(), word) == 0; });
}

// In one line.
std::string flow(const ordered_json& value) {
  if (value.is_object() || value.is_array()) {
    std::string members;
    for (const auto& [key, member] : value.items())
      members += (members.empty() ? "" : ", ") + (value.is_object() ? flow(key) + ": " : "") + flow(member);
    return value.is_object() ? "{" + members + "}" : "[" + members + "]";
  }
  if (!value.is_string()) return value.dump();
  const std::string& text = value.get_ref<const std::string&>();
  return reads_back_as_text(text) ? text : value.dump();
}

bool holds_maps(const ordered_json& value) {
  return value.is_array() &&
         std::any_of(value.begin(), value.end(), [](const ordered_json& v) { return v.is_object() && !v.empty(); });
}

// `lead` stands before the first key, `indent` before the others.
void emit_map(const ordered_json& map, std::string lead, const std::string& indent, std::string& out) {
  for (const auto& [key, value] : map.items()) {
    out += std::exchange(lead, indent) + flow(key) + ":";
    if (value.is_object() && !value.empty()) {
      out += "\n";
      emit_map(value, indent + "  ", indent + "  ", out);
    } else if (holds_maps(value)) {
      out += "\n";
      for (const ordered_json& item : value) {
        if (item.is_object() && !item.empty())
          emit_map(item, indent + "  - ", indent + "    ", out);
        else
          out += indent + "  - " + flow(item) + "\n";
      }
    } else {
      out += cat(" ", flow(value), "\n");
    }
  }
}

}  // namespace

std::string emit(const ordered_json& map) {
  std::string out;
  emit_map(map, "", "", out);
  return out;
}

}  // namespace roundhouse::yaml
