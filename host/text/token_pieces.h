// SPDX-License-Identifier: Apache-2.0
// Long texts as tokens, a piece at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "host/text/tokenizer.h"

namespace roundhouse {

// The token ids of a text in pieces of one length. A text that is much longer than a piece is tokenized in parts, cut
// at white space, so that a book costs what is taken of it.
class TokenPieces {
 public:
  // Views the text. REQUIRES: length > 0.
  TokenPieces(std::string_view text, const Tokenizer& tokenizer, bool special_tokens, size_t length);

  // The first piece is what Tokenizer::encode gives, cut to the length: the special tokens stay. It may be shorter, and
  // so is the last; further ones have the text's own tokens alone. Empty behind the last.
  std::vector<int32_t> next();

 private:
  std::vector<int32_t> first();
  void begin_second();
  std::string_view take_part();

  std::string_view rest_;
  const Tokenizer* tokenizer_;
  bool special_tokens_;
  size_t length_;
  int given_ = 0;               // pieces
  std::string_view part_;       // that the first piece is cut from
  std::vector<int32_t> ready_;  // of further pieces
};

// All of the ids.
std::vector<int32_t> encode_in_parts(std::string_view text, const Tokenizer& tokenizer, bool special_tokens);

}  // namespace roundhouse
