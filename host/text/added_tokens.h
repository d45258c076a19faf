// SPDX-License-Identifier: Apache-2.0
// The "added_tokens" of tokenizer.json: texts that are one token wherever they occur, found before the model sees the text.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "host/text/model.h"
#include "host/text/normalizer.h"
#include "host/text/trie.h"

namespace roundhouse {

// Thread-safe once built.
class AddedTokens {
 public:
  AddedTokens() = default;
  // `list` is the JSON of "added_tokens" in `file`. `normalizer` may be null.
  AddedTokens(const nlohmann::json& list, const std::string& file, const TokenModel& model,
              const Normalizer* normalizer);

  struct Part {
    size_t begin;
    size_t end;
    std::optional<int32_t> id;  // none: text between added tokens
  };
  // The text cut at the added tokens that are matched before normalization (`normalized` false) or after it.
  std::vector<Part> split(std::string_view text, bool normalized) const;

  std::optional<int32_t> token_id(std::string_view content) const;
  // What the decoder gets for an id: the content, normalized if the token is matched normalized.
  std::optional<std::string_view> text(int32_t id) const;
  // As the file has it.
  std::optional<std::string_view> content(int32_t id) const;
  bool is_special(int32_t id) const;
  // Added tokens that the model's vocabulary lacks.
  size_t count_beyond(const TokenModel& model) const;

 private:
  struct Token {
    std::string content;
    std::string text;  // for the decoder
    bool single_word;  // must not touch other word characters
    bool lstrip;       // takes the white space on its left with it
    bool rstrip;
    bool normalized;
    bool special;
  };

  Vocabulary ids_;                   // by content
  std::map<int32_t, Token> tokens_;  // by id
  Trie raw_;
  Trie normalized_;
};

}  // namespace roundhouse
