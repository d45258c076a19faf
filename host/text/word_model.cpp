// SPDX-License-Identifier: Apache-2.0
#include "host/text/word_model.h"

#include <algorithm>

#include "host/base/error.h"
#include "host/text/unicode.h"

namespace roundhouse {

WordLevel::WordLevel(const Component& model)
    : vocabulary_(read_vocabulary(model)), unknown_(optional_text(model, "unk_token")) {
  for (const auto& [token, id] : vocabulary_) tokens_[id] = token;
}

void WordLevel::encode(std::string_view word, std::vector<int32_t>& ids) const {
  if (const auto id = token_id(word)) return ids.push_back(*id);
  append_unknown(word, ids);
}

void WordLevel::append_unknown(std::string_view word, std::vector<int32_t>& ids) const {
  const auto id = token_id(unknown_);
  if (!id) fail_unknown(word, unknown_);
  ids.push_back(*id);
}

std::optional<int32_t> WordLevel::token_id(std::string_view token) const {
  const auto found = vocabulary_.find(token);
  return found == vocabulary_.end() ? std::nullopt : std::optional(found->second);
}

std::optional<std::string_view> WordLevel::token(int32_t id) const {
  const auto found = tokens_.find(id);
  return found == tokens_.end() ? std::nullopt : std::optional(found->second);
}

WordPiece::WordPiece(const Component& model)
    : WordLevel(model),
      prefix_(model.text("continuing_subword_prefix")),
      longest_(model.count("max_input_chars_per_word")) {}

void WordPiece::encode(std::string_view word, std::vector<int32_t>& ids) const {
  const auto continues = [](char byte) { return (static_cast<uint8_t>(byte) & 0xc0) == 0x80; };
  if (word.size() - static_cast<size_t>(std::count_if(word.begin(), word.end(), continues)) > longest_) {
    return append_unknown(word, ids);
  }
  std::vector<int32_t> pieces;
  for (size_t begin = 0; begin < word.size();) {
    std::optional<int32_t> id;
    size_t end = word.size();
    while (end > begin) {
      const std::string_view text = word.substr(begin, end - begin);
      id = begin == 0 ? token_id(text) : token_id(prefix_ + std::string(text));
      if (id) break;
      end = begin + unicode::last_begin(text);
    }
    if (!id) return append_unknown(word, ids);
    pieces.push_back(*id);
    begin = end;
  }
  ids.insert(ids.end(), pieces.begin(), pieces.end());
}

}  // namespace roundhouse
