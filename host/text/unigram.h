// SPDX-License-Identifier: Apache-2.0
// The Unigram model of tokenizer.json, SentencePiece's: the pieces with the largest sum of scores.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "host/text/model.h"
#include "host/text/trie.h"

namespace roundhouse {

class Unigram : public TokenModel {
 public:
  explicit Unigram(const Component& model);

  // Time is linear in the length, times that of the longest piece.
  void encode(std::string_view word, std::vector<int32_t>& ids) const override;
  std::optional<int32_t> token_id(std::string_view token) const override;
  std::optional<std::string_view> token(int32_t id) const override;
  size_t vocab_size() const override { return pieces_.size(); }

 private:
  // Appends the tokens of what one step of the best path covers.
  void append(std::string_view text, std::vector<int32_t>& ids) const;

  std::vector<std::pair<std::string, double>> pieces_;  // text and score, by id
  Vocabulary ids_;
  Trie trie_;
  std::optional<int32_t> unknown_;
  double unknown_score_;
  bool byte_fallback_;
  std::vector<std::optional<int32_t>> byte_tokens_;  // <0x00> to <0xFF>
};

}  // namespace roundhouse
