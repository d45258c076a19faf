// SPDX-License-Identifier: Apache-2.0
#include "host/text/tokenizer_files.h"

#include <algorithm>
#include <set>
#include <vector>

#include "host/base/error.h"
#include "host/base/files.h"
#include "host/base/model_folder.h"
#include "host/text/converted_files.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

json read_if_there(const fs::path& file) { return fs::exists(file) ? read_json_object(file) : json::object(); }

json value_of(const json& object, const std::string& key) {
  const auto found = object.find(key);
  return found == object.end() ? json() : *found;
}

// A token that a configuration gives as its text, or as an object with it; "" for anything else.
std::string content_of(const json& token) {
  const json content = token.is_object() ? value_of(token, "content") : token;
  return content.is_string() ? content.get<std::string>() : "";
}

std::string advice(const fs::path& folder) {
  return cat(
      "Write its tokenizer.json, with transformers installed: python3 -c \"from transformers import "
      "AutoTokenizer as T; T.from_pretrained('",
      folder.string(), "').save_pretrained('", folder.string(), "')\"");
}

// transformers' name of the tokenizer's class, without "Fast"; that of the model's type where no file names one.
std::string class_of(const fs::path& folder, const json& config) {
  const json model = read_if_there(folder / "config.json");
  for (const json& file : {config, model}) {
    std::string name = content_of(value_of(file, "tokenizer_class"));
    if (name.ends_with("Fast")) name.resize(name.size() - 4);
    if (!name.empty()) return name;
  }
  const std::string type = content_of(value_of(model, "model_type"));
  return type.starts_with("qwen2") || type.starts_with("qwen3") ? "Qwen2Tokenizer" : "";
}

// Files that other forms than tokenizer.json consist of.
class OtherForms {
 public:
  OtherForms(const fs::path& folder, const json& config) : folder_(folder), config_(config) {}

  // The file, and what it says.
  std::pair<fs::path, ConvertedTokenizer> read() const {
    const auto there = [this](const char* name) { return fs::exists(folder_ / name); };
    if (there("tekken.json")) return made("tekken.json", convert_tekken(folder_ / "tekken.json"));
    for (const std::string& name : model_files()) {
      const std::string content = read_file(folder_ / name);
      if (!is_tiktoken(content)) return made(name, convert_sentence_piece(content, (folder_ / name).string(), config_));
      if (config_.contains("auto_map"))
        fail(name, "the words that it splits texts into are in the model's own code (auto_map)");
      return made(name, convert_tiktoken(folder_ / name, config_));
    }
    const std::string class_name = class_of(folder_, config_);
    const auto is_one_of = [&class_name](std::set<std::string> known) {
      return class_name.empty() || known.contains(class_name);
    };
    if (there("vocab.json") && there("merges.txt")) {
      if (!is_one_of(
              {"GPT2Tokenizer", "CodeGenTokenizer", "Qwen2Tokenizer", "PreTrainedTokenizer", "TokenizersBackend"}))
        fail("vocab.json", cat("how a ", class_name, " splits texts is not known"));
      return made("vocab.json", convert_merges(folder_ / "vocab.json", folder_ / "merges.txt", config_,
                                               class_name == "Qwen2Tokenizer"));
    }
    if (there("vocab.txt")) {
      if (!is_one_of({"BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer"}))
        fail("vocab.txt", cat("how a ", class_name, " splits texts is not known"));
      return made("vocab.txt", convert_word_pieces(folder_ / "vocab.txt", config_));
    }
    for (const char* name : {"vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model"})
      if (there(name)) fail(name, "is not read by itself");
    throw Error(cat(folder_.string(),
                    ": there is no tokenizer: none of tokenizer.json, tekken.json, tokenizer.model, tiktoken.model, "
                    "*.tiktoken, vocab.json with merges.txt, and vocab.txt. Download the model's tokenizer files into "
                    "the folder."));
  }

 private:
  std::pair<fs::path, ConvertedTokenizer> made(const std::string& name, ConvertedTokenizer tokenizer) const {
    return {folder_ / name, std::move(tokenizer)};
  }
  [[noreturn]] void fail(const std::string& name, const std::string& why) const {
    throw Error(cat((folder_ / name).string(), ": ", why, ". ", advice(folder_)));
  }

  // Of SentencePiece or of tiktoken.
  std::vector<std::string> model_files() const {
    std::vector<std::string> names;
    for (const char* name : {"tokenizer.model", "tiktoken.model"})
      if (fs::exists(folder_ / name)) names.emplace_back(name);
    if (!names.empty() || !fs::is_directory(folder_)) return names;
    for (const auto& entry : fs::directory_iterator(folder_))
      if (entry.path().extension() == ".tiktoken") names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }

  const fs::path& folder_;
  const json& config_;
};

// In the order in which transformers adds those that the vocabulary lacks.
constexpr const char* kRoles[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                  "pad_token", "cls_token", "mask_token"};

// The configuration's special tokens with names of the model's own, such as image_token, in the order in which the file has
// them: transformers adds them so.
std::vector<json> named_tokens(const fs::path& folder) {
  if (!fs::exists(folder / "tokenizer_config.json")) return {};
  using Ordered = nlohmann::ordered_json;
  const Ordered config = Ordered::parse(without_python_numbers(read_file(folder / "tokenizer_config.json")));
  const auto is_role = [](const std::string& key) {
    return std::any_of(std::begin(kRoles), std::end(kRoles), [&](const char* role) { return key == role; });
  };
  Ordered named = Ordered::object();
  for (const auto& [key, value] : config.items())
    if (key.ends_with("_token") && !is_role(key) && (value.is_string() || value.contains("__type"))) named[key] = value;
  const auto add_map = [&](const char* key) {
    if (const auto map = config.find(key); map != config.end() && map->is_object())
      for (const auto& [name, value] : map->items()) named[name] = value;
  };
  add_map("extra_special_tokens");
  if (named.empty()) add_map("model_specific_special_tokens");
  std::vector<json> tokens;
  for (const auto& [name, value] : named.items()) tokens.push_back(json(value));
  return tokens;
}

// Tokens of the configuration's "added_tokens_decoder"; where it has none, of added_tokens.json, whose ids give way to
// those of tokenizer.json.
std::map<int64_t, json> other_added_tokens(const fs::path& folder, const json& config, const json& own,
                                           const std::set<std::string>& special) {
  std::map<int64_t, json> tokens;
  if (const json decoder = value_of(config, "added_tokens_decoder"); decoder.is_object()) {
    for (const auto& [id, said] : decoder.items()) {
      if (!said.is_object() || content_of(said).empty()) continue;
      json token = added_token(content_of(said), said.value("special", false));
      token.update(said);
      tokens[added_token_id(id, folder)] = std::move(token);
    }
    return tokens;
  }
  const json file = read_if_there(folder / "added_tokens.json");
  for (const auto& [text, id] : file.items())
    if (id.is_number_integer()) tokens[id.get<int64_t>()] = added_token(text, special.contains(text));
  for (const json& token : own)
    if (const json id = value_of(token, "id"); id.is_number_integer()) tokens.erase(id.get<int64_t>());
  return tokens;
}

}  // namespace

TokenizerFiles read_tokenizer_files(const fs::path& folder) {
  TokenizerFiles files;
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"})
    require_linked(folder / name);
  json config = read_if_there(folder / "tokenizer_config.json");
  const bool has_json = fs::exists(folder / "tokenizer.json");
  json defaults = json::object();
  if (has_json) {
    files.file = (folder / "tokenizer.json").string();
    files.json = read_json_object(folder / "tokenizer.json");
  } else {
    auto [file, converted] = OtherForms(folder, config).read();
    files.file = file.string();
    files.json = std::move(converted.json);
    defaults = std::move(converted.config);
  }
  // transformers 5 reads special_tokens_map.json only beside a configuration without added_tokens_decoder, and then
  // before it; here it also fills what the configuration leaves open.
  const json map = read_if_there(folder / "special_tokens_map.json");
  const bool map_first = !config.contains("added_tokens_decoder");
  json said = std::move(defaults);
  for (const json& file : {map_first ? config : map, map_first ? map : config}) said.update(file);

  for (const char* role : kRoles)
    if (const std::string text = content_of(value_of(said, role)); !text.empty()) files.roles[role] = text;
  std::vector<json> special;
  for (const char* role : kRoles)
    if (files.roles.contains(role)) special.push_back(said[role]);
  for (json& token : named_tokens(folder)) special.push_back(std::move(token));
  const json extra = value_of(said, "extra_special_tokens");
  for (const json& token : extra.is_array() && !extra.empty() ? extra : value_of(said, "additional_special_tokens"))
    special.push_back(token);
  std::set<std::string> special_texts;
  for (const json& token : special) special_texts.insert(content_of(token));

  json& added = files.json["added_tokens"];
  if (added.is_null()) added = json::array();
  if (!added.is_array()) throw Error(cat(files.file, ": \"added_tokens\" is not a list"));
  for (auto& [id, token] : other_added_tokens(folder, config, added, special_texts)) added.push_back(std::move(token));
  std::set<std::string> known;
  for (const json& token : added) known.insert(content_of(token));
  for (const json& token : special) {
    const std::string text = content_of(token);
    if (text.empty() || !known.insert(text).second) continue;
    added.push_back(added_token(text, true));
    if (token.is_object()) added.back().update(token);
    added.back()["special"] = true;
  }
  // Beside tokenizer.json, whose post-processor tells, transformers 5 does not read add_bos_token and add_eos_token.
  if (has_json) return files;
  const auto role = [&files](const char* name) {
    const auto found = files.roles.find(name);
    return found == files.roles.end() ? std::nullopt : std::optional(found->second);
  };
  if (value_of(said, "add_bos_token") == true) files.before = role("bos_token");
  if (value_of(said, "add_eos_token") == true) files.after = role("eos_token");
  if (files.json["model"]["type"] == "WordPiece") {
    files.before = role("cls_token");
    files.after = role("sep_token");
  }
  return files;
}

}  // namespace roundhouse
