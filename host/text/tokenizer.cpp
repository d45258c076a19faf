#include "host/text/tokenizer.h"

#include <algorithm>
#include <utility>

#include "host/base/error.h"
#include "host/base/files.h"
#include "host/text/added_tokens.h"
#include "host/text/bpe.h"
#include "host/text/normalizer.h"
#include "host/text/post_processor.h"
#include "host/text/pre_tokenizer.h"
#include "host/text/token_decoder.h"
#include "host/text/unicode.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;

// The content of a token's role ("pad_token"): a string or an added token's object, in the first file that has the key.
std::optional<std::string> role_content(const std::vector<nlohmann::json>& files, const char* role) {
  for (const nlohmann::json& file : files) {
    const auto found = file.find(role);
    if (found == file.end()) continue;
    if (found->is_string()) return found->get<std::string>();
    if (found->is_object() && found->contains("content") && (*found)["content"].is_string()) {
      return (*found)["content"].get<std::string>();
    }
    return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace

struct Tokenizer::Parts {
  Parts(const nlohmann::json& json, const std::string& file);

  void encode_text(std::string_view text, std::vector<int32_t>& ids) const;
  void encode_piece(Piece piece, std::vector<int32_t>& ids) const;
  std::optional<int32_t> token_id(std::string_view token) const;

  std::unique_ptr<const Normalizer> normalizer;       // may be null
  std::unique_ptr<const PreTokenizer> pre_tokenizer;  // may be null
  std::unique_ptr<const Decoder> decoder;             // may be null
  SpecialTokens special;
  Bpe model;
  AddedTokens added;
  std::optional<int32_t> pad, bos, eos;

 private:
  static Bpe read_model(const nlohmann::json& json, const std::string& file) {
    if (!json.contains("model")) throw Error(cat(file, ": has no \"model\""));
    return Bpe(Component(json["model"], file, "model"));
  }
};

Tokenizer::Parts::Parts(const nlohmann::json& json, const std::string& file) : model(read_model(json, file)) {
  const auto component = [&](const char* place) -> std::optional<Component> {
    const auto found = json.find(place);
    if (found == json.end() || found->is_null()) return std::nullopt;
    return Component(*found, file, place);
  };
  if (const auto part = component("normalizer")) normalizer = make_normalizer(*part);
  if (const auto part = component("pre_tokenizer")) pre_tokenizer = make_pre_tokenizer(*part);
  if (const auto part = component("decoder")) decoder = make_decoder(*part);
  if (const auto part = component("post_processor")) special = read_post_processor(*part);
  if (json.contains("added_tokens")) added = AddedTokens(json["added_tokens"], file, model, normalizer.get());
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
  if (!pre_tokenizer) return model.encode(piece.text, ids);
  std::vector<Piece> words;
  pre_tokenizer->split(std::move(piece), words);
  for (const Piece& word : words) model.encode(word.text, ids);
}

std::optional<int32_t> Tokenizer::Parts::token_id(std::string_view token) const {
  const auto id = added.token_id(token);
  return id ? id : model.token_id(token);
}

Tokenizer::Tokenizer(std::unique_ptr<const Parts> parts) : parts_(std::move(parts)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::load(const fs::path& model_dir) {
  const fs::path file = model_dir / "tokenizer.json";
  auto parts = std::make_unique<Parts>(read_json_object(file), file.string());
  std::vector<nlohmann::json> roles;
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json"}) {
    if (fs::exists(model_dir / name)) roles.push_back(read_json_object(model_dir / name));
  }
  const auto role_id = [&](const char* role) -> std::optional<int32_t> {
    const auto content = role_content(roles, role);
    return content ? parts->token_id(*content) : std::nullopt;
  };
  parts->pad = role_id("pad_token");
  parts->bos = role_id("bos_token");
  parts->eos = role_id("eos_token");
  return Tokenizer(std::move(parts));
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
    if (!text) text = parts_->model.token(id);
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

std::optional<int32_t> Tokenizer::pad_id() const { return parts_->pad; }
std::optional<int32_t> Tokenizer::bos_id() const { return parts_->bos; }
std::optional<int32_t> Tokenizer::eos_id() const { return parts_->eos; }
std::optional<int32_t> Tokenizer::token_id(std::string_view token) const { return parts_->token_id(token); }
size_t Tokenizer::vocab_size() const { return parts_->model.vocab_size() + parts_->added.count_beyond(parts_->model); }

}  // namespace roundhouse
