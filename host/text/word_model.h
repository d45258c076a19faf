// SPDX-License-Identifier: Apache-2.0
// The models WordPiece (BERT's) and WordLevel of tokenizer.json.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "host/text/model.h"

namespace roundhouse {

// A word is a token, or the unknown.
class WordLevel : public TokenModel {
 public:
  explicit WordLevel(const Component& model);
  void encode(std::string_view word, std::vector<int32_t>& ids) const override;
  std::optional<int32_t> token_id(std::string_view token) const override;
  std::optional<std::string_view> token(int32_t id) const override;
  size_t vocab_size() const override { return vocabulary_.size(); }

 protected:
  void append_unknown(std::string_view word, std::vector<int32_t>& ids) const;

 private:
  Vocabulary vocabulary_;
  std::unordered_map<int32_t, std::string_view> tokens_;  // keys of vocabulary_, which never move
  std::string unknown_;
};

// The longest token that a word begins with, then the longest that the rest begins with, and so on; a word that cannot
// be cut so is one unknown.
class WordPiece : public WordLevel {
 public:
  explicit WordPiece(const Component& model);
  void encode(std::string_view word, std::vector<int32_t>& ids) const override;

 private:
  std::string prefix_;  // of every token but a word's first
  size_t longest_;      // characters; a longer word is unknown
};

}  // namespace roundhouse
