// The "added_tokens" of tokenizer.json: texts that are one token wherever they occur, found before BPE sees the text.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "host/text/bpe.h"
#include "host/text/normalizer.h"

namespace roundhouse {

// Finds the longest of a set of strings at a position.
class Trie {
 public:
  // The first of two equal strings counts. REQUIRES: text is not empty.
  void insert(std::string_view text, int32_t id);
  struct Match {
    size_t length;
    int32_t id;
  };
  std::optional<Match> longest_at(std::string_view text, size_t at) const;

 private:
  struct Node {
    std::vector<std::pair<char, int32_t>> children;  // byte, index of the node
    int32_t id = -1;
  };
  const Node* child(const Node& node, char byte) const;

  std::vector<Node> nodes_{1};  // the root first
};

// Thread-safe once built.
class AddedTokens {
 public:
  AddedTokens() = default;
  // `list` is the JSON of "added_tokens" in `file`. `normalizer` may be null.
  AddedTokens(const nlohmann::json& list, const std::string& file, const Bpe& model, const Normalizer* normalizer);

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
  bool is_special(int32_t id) const;
  // Added tokens that the model's vocabulary lacks.
  size_t count_beyond(const Bpe& model) const;

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
