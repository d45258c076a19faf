// SPDX-License-Identifier: Apache-2.0
// Conversations as a model was trained on them: rendered by the chat template in its folder.
#pragma once

#include <chrono>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "host/jinja/template.h"

namespace roundhouse {

// The templates of a model's folder, read when the first conversation asks for them, from the first of these that has
// some: chat_template.jinja with additional_chat_templates/NAME.jinja; tokenizer_config.json's "chat_template", a text
// or a list with names; chat_template.json. Not for use from several threads.
class ChatTemplates {
 public:
  // `date` is what strftime_now tells templates.
  ChatTemplates(std::filesystem::path model_dir, std::chrono::year_month_day date)
      : model_dir_(std::move(model_dir)), date_(date) {}

  // `variables` has "messages" and what else a record gives: "tools", "documents", ... With tools the template named
  // "tool_use" is taken where there is one. The text has its special tokens already. Throws Error when the folder has
  // no template, one is damaged, or it refuses the conversation.
  std::string render(nlohmann::ordered_json variables) const;

 private:
  struct Loaded {
    std::map<std::string, jinja::Template> templates;
    nlohmann::ordered_json special_tokens;  // "bos_token", ...: their texts
  };
  const Loaded& loaded() const;
  Loaded load() const;

  std::filesystem::path model_dir_;
  std::chrono::year_month_day date_;
  mutable std::optional<Loaded> loaded_;
  mutable std::string failure_;  // of the first try, which every conversation would repeat
};

}  // namespace roundhouse
