// SPDX-License-Identifier: Apache-2.0
// The "model" of tokenizer.json: cuts a word into tokens.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "host/text/component.h"

namespace roundhouse {

// Strings to ids, searchable by string_view.
struct StringHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};
using Vocabulary = std::unordered_map<std::string, int32_t, StringHash, std::equal_to<>>;

// Thread-safe.
class TokenModel {
 public:
  virtual ~TokenModel() = default;

  // Appends the tokens of one word. Throws Error when a part of it has no token, and the model none for the unknown.
  virtual void encode(std::string_view word, std::vector<int32_t>& ids) const = 0;

  virtual std::optional<int32_t> token_id(std::string_view token) const = 0;
  virtual std::optional<std::string_view> token(int32_t id) const = 0;
  virtual size_t vocab_size() const = 0;
};

// What the models read alike: "vocab" as an object; a text that may be null or missing, which gives ""; the tokens
// <0x00> to <0xFF>.
Vocabulary read_vocabulary(const Component& model);
std::string optional_text(const Component& model, const char* key);
std::vector<std::optional<int32_t>> byte_tokens(const Vocabulary& vocabulary);
// Throws Error for a text that needs the token of the unknown where there is none; `unknown` is its name or "".
[[noreturn]] void fail_unknown(std::string_view text, const std::string& unknown);

}  // namespace roundhouse
