// SPDX-License-Identifier: Apache-2.0
#include "host/text/tokenizer.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "host/base/error.h"
#include "host/base/files.h"
#include "host/text/added_tokens.h"
#include "host/text/converted_files.h"
#include "host/text/make_model.h"
#include "host/text/normalizer.h"
#include "host/text/post_processor.h"
#include "host/text/pre_tokenizer.h"
#include "host/text/token_decoder.h"
#include "host/text/tokenizer_files.h"
#include "host/text/unicode.h"

namespace roundhouse {

namespace fs = std::filesystem;

struct Tokenizer::Parts {
  explicit Parts(const TokenizerFiles& files);

  void encode_text(std::string_view text, std::vector<int32_t>& ids) const;
  void encode_piece(Piece piece, std::vector<int32_t>& ids) const;
  std::optional<int32_t> token_id(std::string_view token) const;
  std::optional<int32_t> role(const std::string& name) const;

  std::unique_ptr<const Normalizer> normalizer;       // may be null
  std::unique_ptr<const PreTokenizer> pre_tokenizer;  // may be null
  std::unique_ptr<const Decoder> decoder;             // may be null
  SpecialTokens special;
  std::unique_ptr<const TokenModel> model;
  AddedTokens added;
  std::map<std::string, int32_t> roles;  // "bos_token" and the others
};

Tokenizer::Parts::Parts(const TokenizerFiles& files) {
  const nlohmann::json& json = files.json;
  const std::string& file = files.file;
  if (!json.contains("model")) throw Error(cat(file, ": has no \"model\""));
  model = make_model(Component(json["model"], file, "model"));
  const auto component = [&](const char* place) -> std::optional<Component> {
    const auto found = json.find(place);
    if (found == json.end() || found->is_null()) return std::nullopt;
    return Component(*found, file, place);
  };
  if (const auto part = component("normalizer")) normalizer = make_normalizer(*part);
  if (const auto part = component("pre_tokenizer")) pre_tokenizer = make_pre_tokenizer(*part);
  if (const auto part = component("decoder")) decoder = make_decoder(*part);
  if (const auto part = component("post_processor")) special = read_post_processor(*part);
  if (json.contains("added_tokens")) added = AddedTokens(json["added_tokens"], file, *model, normalizer.get());
  for (const auto& [name, text] : files.roles)
    if (const auto id = token_id(text)) roles[name] = *id;
  if (files.before) special.before.insert(special.before.begin(), token_id(*files.before).value());
  if (files.after) special.after.push_back(token_id(*files.after).value());
}

// Added tokens matched raw come first, then each text between them is normalized and cut at those matched normalized.
void Tokenizer::Parts::encode_text(std::string_view text, std::vector<int32_t>& ids) const {
  for (const AddedTokens::Part& raw : added.split(text, false)) {
    if (raw.id) {
      ids.push_back(*raw.id);
      continue;
    }
    Piece piece{std::string(text.substr(raw.begin, raw.end - raw.begin)), raw.begin == 0};
    if (normalizer) normalizer->apply(piece);
    for (const AddedTokens::Part& part : added.split(piece.text, true)) {
      if (part.id) {
        ids.push_back(*part.id);
      } else {
        encode_piece({piece.text.substr(part.begin, part.end - part.begin), piece.at_start && part.begin == 0}, ids);
      }
    }
  }
}

void Tokenizer::Parts::encode_piece(Piece piece, std::vector<int32_t>& ids) const {
  if (!pre_tokenizer) return model->encode(piece.text, ids);
  std::vector<Piece> words;
  pre_tokenizer->split(std::move(piece), words);
  for (const Piece& word : words) model->encode(word.text, ids);
}

std::optional<int32_t> Tokenizer::Parts::token_id(std::string_view token) const {
  const auto id = added.token_id(token);
  return id ? id : model->token_id(token);
}

std::optional<int32_t> Tokenizer::Parts::role(const std::string& name) const {
  const auto found = roles.find(name);
  return found == roles.end() ? std::nullopt : std::optional(found->second);
}

Tokenizer::Tokenizer(std::unique_ptr<const Parts> parts) : parts_(std::move(parts)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::load(const fs::path& model_dir) {
  return Tokenizer(std::make_unique<Parts>(read_tokenizer_files(model_dir)));
}

nlohmann::json Tokenizer::facts(const fs::path& model_dir) {
  try {
    TokenizerFiles files = read_tokenizer_files(model_dir);
    const Parts parts(files);
    nlohmann::json roles = nlohmann::json::object();
    for (const auto& [name, id] : parts.roles) roles[name.substr(0, name.find('_'))] = id;
    for (nlohmann::json& token : files.json["added_tokens"]) {
      const auto id = parts.token_id(token["content"].get_ref<const std::string&>());
      token["id"] = id ? nlohmann::json(*id) : nlohmann::json();
    }
    nlohmann::json facts{{"json", std::move(files.json)},
                         {"before", parts.special.before},
                         {"after", parts.special.after},
                         {"roles", std::move(roles)}};
    if (const fs::path file = model_dir / "tokenizer.model"; fs::is_regular_file(file))
      if (const std::string content = read_file(file); !is_tiktoken(content))
        facts["pieces"] = sentence_pieces(content, file.string());
    return facts;
  } catch (const Error& error) {
    return {{"error", error.what()}};
  }
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special_tokens, size_t max_tokens) const {
  std::vector<int32_t> ids;
  if (add_special_tokens) ids = parts_->special.before;
  parts_->encode_text(unicode::replace_invalid(text), ids);
  const auto& after = parts_->special.after;
  const size_t reserved = add_special_tokens ? after.size() : 0;
  if (ids.size() + reserved > max_tokens) ids.resize(std::max(max_tokens, reserved) - reserved);
  if (add_special_tokens) ids.insert(ids.end(), after.begin(), after.end());
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  std::vector<std::string> tokens;
  for (const int32_t id : ids) {
    if (skip_special_tokens && parts_->added.is_special(id)) continue;
    auto text = parts_->added.text(id);
    if (!text) text = parts_->model->token(id);
    if (text) tokens.emplace_back(*text);
  }
  std::string result;
  if (parts_->decoder) {
    for (const std::string& part : parts_->decoder->apply(std::move(tokens))) result += part;
  } else {
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (i > 0) result += ' ';
      result += tokens[i];
    }
  }
  return result;
}

std::optional<int32_t> Tokenizer::pad_id() const { return parts_->role("pad_token"); }
std::optional<int32_t> Tokenizer::bos_id() const { return parts_->role("bos_token"); }
std::optional<int32_t> Tokenizer::eos_id() const { return parts_->role("eos_token"); }
std::optional<int32_t> Tokenizer::token_id(std::string_view token) const { return parts_->token_id(token); }
std::string Tokenizer::token(int32_t id) const {
  const auto added = parts_->added.content(id);
  return std::string(added ? *added : parts_->model->token(id).value_or(""));
}
size_t Tokenizer::vocab_size() const {
  return parts_->model->vocab_size() + parts_->added.count_beyond(*parts_->model);
}

}  // namespace roundhouse
