#include <algorithm>
#include <regex>
#include <utility>

#include "host/base/error.h"
#include "host/recipe/yaml.h"

namespace roundhouse::yaml {
namespace {

using nlohmann::ordered_json;

// Without quotes, by any YAML reader: many take yes, no, on and off for booleans.
bool reads_back_as_text(const std::string& text) {
  static const std::regex kSafe("[A-Za-z/][A-Za-z0-9_./-]*");
  static const std::regex kOther("true|false|null|yes|no|on|off|y|n", std::regex::icase);
  return std::regex_match(text, kSafe) && !std::regex_match(text, kOther);
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
