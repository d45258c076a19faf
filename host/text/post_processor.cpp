// SPDX-License-Identifier: Apache-2.0
#include "host/text/post_processor.h"

#include "host/base/error.h"

namespace roundhouse {
namespace {

// ["<s>", 1], as BertProcessing and RobertaProcessing write a token.
int32_t pair_id(const Component& component, const char* key) {
  const auto found = component.json().find(key);
  if (found == component.json().end() || !found->is_array() || found->size() != 2 ||
      !(*found)[1].is_number_unsigned()) {
    component.fail(cat("\"", key, "\" is not [token, id]"));
  }
  return (*found)[1].get<int32_t>();
}

SpecialTokens read_template(const Component& component) {
  SpecialTokens tokens;
  bool text_seen = false;
  try {
    const nlohmann::json& ids = component.json().at("special_tokens");
    for (const nlohmann::json& item : component.json().at("single")) {
      if (item.contains("SpecialToken")) {
        const auto name = item["SpecialToken"].at("id").get<std::string>();
        for (const nlohmann::json& id : ids.at(name).at("ids")) {
          (text_seen ? tokens.after : tokens.before).push_back(id.get<int32_t>());
        }
      } else if (item.at("Sequence").at("id") == "A" && !text_seen) {
        text_seen = true;
      } else {
        component.fail("\"single\" must hold the sequence A once, and no other");
      }
    }
  } catch (const nlohmann::json::exception& error) {
    component.fail(error.what());
  }
  if (!text_seen) component.fail("\"single\" lacks the sequence A");
  return tokens;
}

}  // namespace

SpecialTokens read_post_processor(const Component& component) {
  const std::string& type = component.type();
  if (type == "ByteLevel") return {};  // trims offsets, which nobody asks for here
  if (type == "TemplateProcessing") return read_template(component);
  if (type == "BertProcessing" || type == "RobertaProcessing") {
    return {{pair_id(component, "cls")}, {pair_id(component, "sep")}};
  }
  if (type == "Sequence") {
    SpecialTokens tokens;
    for (const Component& part : component.list("processors")) {
      SpecialTokens outer = read_post_processor(part);
      tokens.before.insert(tokens.before.begin(), outer.before.begin(), outer.before.end());
      tokens.after.insert(tokens.after.end(), outer.after.begin(), outer.after.end());
    }
    return tokens;
  }
  component.unsupported("TemplateProcessing, ByteLevel, BertProcessing, RobertaProcessing and Sequence");
}

}  // namespace roundhouse
