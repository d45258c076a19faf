// SPDX-License-Identifier: Apache-2.0
#include "host/text/chat_template.h"

#include <utility>

#include "host/base/error.h"
#include "host/base/files.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kDefault = "default";
constexpr const char* kToolUse = "tool_use";

using Sources = std::map<std::string, std::pair<std::string, std::string>>;  // by name: the template, and its place

// A text, or a list of {"name", "template"}.
void add_sources(const nlohmann::json& value, const std::string& place, Sources& sources) {
  if (value.is_string()) sources[kDefault] = {value.get<std::string>(), place};
  if (!value.is_array()) return;
  for (const auto& entry : value) {
    if (entry.is_object() && entry.contains("name") && entry["name"].is_string() && entry.contains("template") &&
        entry["template"].is_string())
      sources[entry["name"]] = {entry["template"], cat(place, " ", entry["name"].get<std::string>())};
  }
}

Sources find_sources(const fs::path& dir) {
  Sources sources;
  if (const fs::path file = dir / "chat_template.jinja"; fs::exists(file))
    sources[kDefault] = {read_file(file), file.string()};
  if (const fs::path folder = dir / "additional_chat_templates"; fs::is_directory(folder)) {
    for (const auto& entry : fs::directory_iterator(folder))
      if (entry.path().extension() == ".jinja")
        sources[entry.path().stem().string()] = {read_file(entry.path()), entry.path().string()};
  }
  for (const char* name : {"tokenizer_config.json", "chat_template.json"}) {
    const fs::path file = dir / name;
    if (!sources.empty() || !fs::exists(file)) continue;
    const nlohmann::json json = read_json_object(file);
    if (json.contains("chat_template")) add_sources(json["chat_template"], file.string() + ": chat_template", sources);
  }
  return sources;
}

// The texts of "bos_token" and the like; tokenizer_config.json decides.
Json read_special_tokens(const fs::path& dir) {
  Json tokens = Json::object();
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json"}) {
    if (!fs::exists(dir / name)) continue;
    const nlohmann::json json = read_json_object(dir / name);
    for (const auto& [key, value] : json.items()) {
      if (!key.ends_with("_token") || tokens.contains(key)) continue;
      if (value.is_string()) tokens[key] = value.get<std::string>();
      if (value.is_object() && value.contains("content") && value["content"].is_string())
        tokens[key] = value["content"].get<std::string>();
    }
  }
  return tokens;
}

}  // namespace

const ChatTemplates::Loaded& ChatTemplates::loaded() const {
  if (!failure_.empty()) throw Error(failure_);
  try {
    return loaded_ ? *loaded_ : loaded_.emplace(load());
  } catch (const Error& e) {
    failure_ = e.what();
    throw;
  }
}

ChatTemplates::Loaded ChatTemplates::load() const {
  Loaded loaded;
  for (const auto& [name, source] : find_sources(model_dir_)) {
    try {
      loaded.templates.emplace(name, jinja::Template(source.first));
    } catch (const Error& e) {
      throw Error(cat(source.second, ": ", e.what()));
    }
  }
  if (loaded.templates.empty()) {
    throw Error(cat(model_dir_.string(),
                    ": has no chat template, which conversations need: put chat_template.jinja there, or give texts"));
  }
  loaded.special_tokens = read_special_tokens(model_dir_);
  return loaded;
}

std::string ChatTemplates::render(Json variables) const {
  const Loaded& all = loaded();
  for (const char* key : {"tools", "documents"})
    if (!variables.contains(key)) variables[key] = nullptr;
  auto found = variables["tools"].is_null() ? all.templates.end() : all.templates.find(kToolUse);
  if (found == all.templates.end()) found = all.templates.find(kDefault);
  if (found == all.templates.end()) {
    throw Error(cat(model_dir_.string(), ": has no chat template named ", kDefault, "; one is named ",
                    all.templates.begin()->first));
  }
  variables["add_generation_prompt"] = false;
  for (const auto& [key, text] : all.special_tokens.items())
    if (!variables.contains(key)) variables[key] = text;
  try {
    return found->second.render(variables, date_);
  } catch (const Error& e) {
    throw Error(cat("the chat template refuses the conversation: ", e.what()));
  }
}

}  // namespace roundhouse
