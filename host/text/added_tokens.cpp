// SPDX-License-Identifier: Apache-2.0
#include "host/text/added_tokens.h"

#include <algorithm>

#include "host/base/error.h"
#include "host/text/unicode.h"

namespace roundhouse {
namespace {

bool is_word_character(std::string_view character) {
  static const Regex word(R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200c}\x{200d}])");
  const auto spans = word.spans(character);
  return !spans.empty() && spans.front().match;
}

bool starts_with_word(std::string_view text) {
  size_t end = 0;
  unicode::next(text, end);
  return is_word_character(text.substr(0, end));
}

bool ends_with_word(std::string_view text) { return is_word_character(text.substr(unicode::last_begin(text))); }

}  // namespace

AddedTokens::AddedTokens(const nlohmann::json& list, const std::string& file, const TokenModel& model,
                         const Normalizer* normalizer) {
  int32_t next_id = static_cast<int32_t>(model.vocab_size());
  for (const nlohmann::json& entry : list) {
    Token token;
    try {
      token.content = entry.at("content").get<std::string>();
      token.single_word = entry.at("single_word").get<bool>();
      token.lstrip = entry.at("lstrip").get<bool>();
      token.rstrip = entry.at("rstrip").get<bool>();
      token.normalized = entry.at("normalized").get<bool>();
      token.special = entry.at("special").get<bool>();
    } catch (const nlohmann::json::exception& error) {
      throw Error(cat(file, ": an entry of added_tokens is damaged: ", error.what(), "\n", entry.dump()));
    }
    if (token.content.empty()) continue;
    // The model's id counts, then that of an earlier entry; the entry's own "id" is not read (nor is it by the
    // package): new tokens are numbered after the vocabulary.
    std::optional<int32_t> id = token_id(token.content);
    if (!id) id = model.token_id(token.content);
    if (!id) id = next_id++;
    Piece piece{token.content, true};
    if (token.normalized && normalizer != nullptr) normalizer->apply(piece);
    token.text = std::move(piece.text);
    ids_[token.content] = *id;
    tokens_[*id] = std::move(token);
  }
  for (const auto& [id, token] : tokens_) {
    if (!token.text.empty()) (token.normalized ? normalized_ : raw_).insert(token.text, id);
  }
}

std::vector<AddedTokens::Part> AddedTokens::split(std::string_view text, bool normalized) const {
  const Trie& trie = normalized ? normalized_ : raw_;
  std::vector<Part> parts;
  size_t covered = 0;
  for (size_t at = 0; at < text.size();) {
    const auto match = trie.longest_at(text, at);
    if (!match) {
      ++at;
      continue;
    }
    size_t begin = at;
    size_t end = at + match->length;
    at = end;
    const Token& token = tokens_.at(match->id);
    if (token.single_word) {
      const bool free_left = begin == 0 || !ends_with_word(text.substr(0, begin));
      const bool free_right = end == text.size() || !starts_with_word(text.substr(end));
      if (!free_left || !free_right) continue;
    }
    if (token.lstrip) begin = std::max(begin - unicode::trailing_whitespace(text.substr(0, begin)), covered);
    if (token.rstrip) end += unicode::leading_whitespace(text.substr(end));
    if (covered < begin) parts.push_back({covered, begin, std::nullopt});
    parts.push_back({begin, end, match->id});
    covered = end;
  }
  if (covered < text.size()) parts.push_back({covered, text.size(), std::nullopt});
  return parts;
}

std::optional<int32_t> AddedTokens::token_id(std::string_view content) const {
  const auto found = ids_.find(content);
  return found == ids_.end() ? std::nullopt : std::optional(found->second);
}

std::optional<std::string_view> AddedTokens::text(int32_t id) const {
  const auto found = tokens_.find(id);
  return found == tokens_.end() ? std::nullopt : std::optional<std::string_view>(found->second.text);
}

std::optional<std::string_view> AddedTokens::content(int32_t id) const {
  const auto found = tokens_.find(id);
  return found == tokens_.end() ? std::nullopt : std::optional<std::string_view>(found->second.content);
}

bool AddedTokens::is_special(int32_t id) const {
  const auto found = tokens_.find(id);
  return found != tokens_.end() && found->second.special;
}

size_t AddedTokens::count_beyond(const TokenModel& model) const {
  return static_cast<size_t>(std::count_if(
      ids_.begin(), ids_.end(), [&](const auto& entry) { return !model.token_id(entry.first).has_value(); }));
}

}  // namespace roundhouse
