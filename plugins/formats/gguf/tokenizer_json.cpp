// SPDX-License-Identifier: Apache-2.0
#include "plugins/formats/gguf/tokenizer_json.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <unordered_map>

#include "plugins/formats/gguf/pre_tokenizer.h"
#include "plugins/formats/gguf/tokenizer.h"
#include "plugins/formats/lib/text.h"

namespace roundhouse::formats {
namespace {

constexpr const char* kSpace = "\u2581";  // SentencePiece's mark of a space

Json ggml(GgufReader& file, const std::string& key) { return file.value("tokenizer.ggml." + key); }

std::string text_of(const Json& value) { return value.is_string() ? value.get<std::string>() : ""; }

bool is_utf8(const std::string& text) {
  try {
    Json(text).dump();
    return true;
  } catch (const Json::exception&) {
    return false;
  }
}

// Throws rh::Error for what is no list of texts in UTF-8.
std::vector<std::string> texts_of(GgufReader& file, const char* key) {
  const Json list = ggml(file, key);
  rh::require(list.is_array(), cat("tokenizer.ggml.", key, " is missing, or no list"));
  std::vector<std::string> texts;
  for (const Json& text : list) {
    rh::require(text.is_string() && is_utf8(text.get<std::string>()),
                cat("entry ", texts.size(), " of tokenizer.ggml.", key, " is no text in UTF-8"));
    texts.push_back(text);
  }
  return texts;
}

struct Tokens {
  std::vector<std::string> texts;
  std::vector<TokenType> types;
  std::vector<float> scores;
};

// Throws rh::Error when the lists have different lengths.
Tokens tokens_of(GgufReader& file) {
  Tokens out;
  out.texts = texts_of(file, "tokens");
  out.types.resize(out.texts.size(), TokenType::kNormal);
  out.scores.resize(out.texts.size());
  const Json types = ggml(file, "token_type"), scores = ggml(file, "scores");
  rh::require(
      (types.is_null() || types.size() == out.texts.size()) && (scores.is_null() || scores.size() == out.texts.size()),
      "tokenizer.ggml.tokens, .token_type and .scores have different lengths");
  for (size_t i = 0; i < types.size(); ++i) out.types[i] = static_cast<TokenType>(types[i].get<int32_t>());
  for (size_t i = 0; i < scores.size(); ++i) out.scores[i] = scores[i];
  return out;
}

// The token of a role ("bos"); empty: none.
std::string role(GgufReader& file, const Tokens& tokens, const char* key) {
  const Json id = ggml(file, cat(key, "_token_id"));
  return id.is_number_integer() && id >= 0 && id < tokens.texts.size() ? tokens.texts[id.get<size_t>()] : "";
}

// Those that stand for themselves, whatever the model makes of texts.
Json added_tokens(const Tokens& tokens) {
  Json added = Json::array();
  for (size_t id = 0; id < tokens.texts.size(); ++id) {
    const TokenType type = tokens.types[id];
    const bool special = type == TokenType::kControl || type == TokenType::kUnknown;
    if (!special && type != TokenType::kUserDefined) continue;
    added.push_back({{"id", id},
                     {"content", tokens.texts[id]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", special}});
  }
  return added;
}

// What stands around every text; without a flag as llama.cpp does it.
Json post_processor(GgufReader& file, const Tokens& tokens, bool bos_otherwise) {
  Json single = Json::array(), pair = Json::array(), special = Json::object();
  const auto add = [&](const char* key, const char* flag, bool otherwise) {
    const Json said = ggml(file, flag);
    const std::string token = role(file, tokens, key);
    if (token.empty() || !(said.is_boolean() ? said.get<bool>() : otherwise)) return;
    single.push_back({{"SpecialToken", {{"id", token}, {"type_id", 0}}}});
    pair.push_back(single.back());
    special[token] = {{"id", token}, {"ids", {ggml(file, cat(key, "_token_id"))}}, {"tokens", {token}}};
  };
  const auto sequence = [&](const char* id, int type) { return Json{{"Sequence", {{"id", id}, {"type_id", type}}}}; };
  add("bos", "add_bos_token", bos_otherwise);
  single.push_back(sequence("A", 0));
  pair.push_back(sequence("A", 0));
  pair.push_back(sequence("B", 0));
  add("eos", "add_eos_token", false);
  if (special.empty()) return nullptr;
  return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", special}};
}

// llama.cpp joins the neighbours whose union has the highest score: every division of a token into two others is a
// merge, in the order of the scores. Of the same score, as transformers converts SentencePiece's files.
Json merges_of(const Tokens& tokens, const std::unordered_map<std::string, size_t>& ids) {
  struct Merge {
    float score;
    size_t left_length, right_length, left, right;
  };
  std::vector<Merge> merges;
  for (size_t id = 0; id < tokens.texts.size(); ++id) {
    if (tokens.types[id] != TokenType::kNormal) continue;
    const std::string& text = tokens.texts[id];
    std::vector<Merge> own;
    for (size_t at = 1; at < text.size(); ++at) {
      if ((text[at] & 0xC0) == 0x80) continue;
      const auto left = ids.find(text.substr(0, at)), right = ids.find(text.substr(at));
      if (left == ids.end() || right == ids.end()) continue;
      own.push_back(
          {tokens.scores[id], code_points(left->first), code_points(right->first), left->second, right->second});
    }
    std::sort(own.begin(), own.end(),
              [](const Merge& a, const Merge& b) { return std::tie(a.left, a.right) < std::tie(b.left, b.right); });
    merges.insert(merges.end(), own.begin(), own.end());
  }
  std::stable_sort(merges.begin(), merges.end(), [](const Merge& a, const Merge& b) {
    return std::tie(a.score, a.left_length, a.right_length) > std::tie(b.score, b.left_length, b.right_length);
  });
  Json out = Json::array();
  for (const Merge& merge : merges) out.push_back({tokens.texts[merge.left], tokens.texts[merge.right]});
  return out;
}

using SortedJson = nlohmann::json;  // vocabularies are large, and Json looks its keys up one by one

// With the added tokens, which merges may lead to.
SortedJson vocabulary(const Tokens& tokens, std::unordered_map<std::string, size_t>& ids) {
  SortedJson vocab = SortedJson::object();
  for (size_t id = 0; id < tokens.texts.size(); ++id) {
    if (tokens.types[id] == TokenType::kUnused || !ids.emplace(tokens.texts[id], id).second) continue;
    vocab[tokens.texts[id]] = id;
  }
  return vocab;
}

std::string pieces_json(GgufReader& file, const Tokens& tokens) {
  std::unordered_map<std::string, size_t> ids;
  const SortedJson vocab = vocabulary(tokens, ids);
  const Json said = ggml(file, "add_space_prefix");
  const bool prefix = said.is_boolean() ? said.get<bool>() : true;
  const std::string unknown = role(file, tokens, "unknown");
  Json normalizers = Json::array(),
       decoders = {{{"type", "Replace"}, {"pattern", {{"String", kSpace}}}, {"content", " "}},
                   {{"type", "ByteFallback"}},
                   {{"type", "Fuse"}}};
  if (prefix) {
    normalizers.push_back({{"type", "Prepend"}, {"prepend", kSpace}});
    decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  }
  normalizers.push_back({{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kSpace}});
  SortedJson model{{"type", "BPE"},
                   {"dropout", nullptr},
                   {"continuing_subword_prefix", nullptr},
                   {"fuse_unk", true},
                   {"byte_fallback", true},
                   {"end_of_word_suffix", nullptr},
                   {"ignore_merges", false},
                   {"unk_token", nullptr},
                   {"vocab", vocab},
                   {"merges", SortedJson(merges_of(tokens, ids))}};
  if (!unknown.empty()) model["unk_token"] = unknown;
  return SortedJson{{"version", "1.0"},
                    {"truncation", nullptr},
                    {"padding", nullptr},
                    {"added_tokens", SortedJson(added_tokens(tokens))},
                    {"normalizer", {{"type", "Sequence"}, {"normalizers", SortedJson(normalizers)}}},
                    {"pre_tokenizer", nullptr},
                    {"post_processor", SortedJson(post_processor(file, tokens, true))},
                    {"decoder", {{"type", "Sequence"}, {"decoders", SortedJson(decoders)}}},
                    {"model", model}}
      .dump();
}

std::string bytes_json(GgufReader& file, const Tokens& tokens, const PreTokenizer& pre) {
  std::unordered_map<std::string, size_t> ids;
  const SortedJson vocab = vocabulary(tokens, ids);
  SortedJson merges = SortedJson::array();
  for (const std::string& text : texts_of(file, "merges")) {
    const size_t blank = text.find(' ', 1);
    rh::require(blank != std::string::npos, "an entry of tokenizer.ggml.merges is no pair");
    merges.push_back({text.substr(0, blank), text.substr(blank + 1)});
  }
  const SortedJson model{{"type", "BPE"},
                         {"dropout", nullptr},
                         {"unk_token", nullptr},
                         {"continuing_subword_prefix", nullptr},
                         {"end_of_word_suffix", nullptr},
                         {"fuse_unk", false},
                         {"byte_fallback", false},
                         {"ignore_merges", pre.ignore_merges},
                         {"vocab", vocab},
                         {"merges", merges}};
  return SortedJson{
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", SortedJson(added_tokens(tokens))},
      {"normalizer", pre.nfc ? SortedJson{{"type", "NFC"}} : SortedJson()},
      {"pre_tokenizer", SortedJson(pre_tokenizer_json(pre))},
      {"post_processor", SortedJson(post_processor(file, tokens, pre.adds_bos))},
      {"decoder", {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}}},
      {"model", model}}
      .dump();
}

}  // namespace

std::string tokenizer_json(GgufReader& file) {
  const std::string kind = text_of(ggml(file, "model")), pre = text_of(ggml(file, "pre"));
  const PreTokenizer* words = pre_tokenizer(pre);
  try {
    if (kind == "llama") return pieces_json(file, tokens_of(file));
    if (kind == "gpt2" && words) return bytes_json(file, tokens_of(file), *words);
    if (!kind.empty())
      rh::log(RH_LOG_WARNING,
              cat("gguf: the tokenizer in the file, ", kind, kind == "gpt2" ? " with the pre-tokenizer " + pre : "",
                  ", is not one that is rebuilt here; take the original model's tokenizer files"));
  } catch (const rh::Error& e) {
    rh::log(RH_LOG_WARNING, cat("gguf: the tokenizer in the file cannot be rebuilt: ", e.what(),
                                "; take the original model's tokenizer files"));
  }
  return "";
}

std::string tokenizer_config_json(GgufReader& file) {
  Tokens tokens;
  try {
    tokens = tokens_of(file);
  } catch (const rh::Error&) {
    return "";
  }
  Json config{{"tokenizer_class", "PreTrainedTokenizerFast"}, {"clean_up_tokenization_spaces", false}};
  constexpr struct {
    const char *name, *key;
  } kRoles[] = {{"bos_token", "bos"},       {"eos_token", "eos"},     {"unk_token", "unknown"},
                {"sep_token", "seperator"}, {"pad_token", "padding"}, {"mask_token", "mask"}};  // ggml spells it so
  for (const auto& [name, key] : kRoles)
    if (const std::string token = role(file, tokens, key); !token.empty()) config[name] = token;
  if (const std::string chat = text_of(file.value("tokenizer.chat_template")); !chat.empty())
    config["chat_template"] = chat;
  return config.dump(2) + "\n";
}

}  // namespace roundhouse::formats
