// SPDX-License-Identifier: Apache-2.0
// The BPE model of tokenizer.json: a vocabulary and ranked merges.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "host/text/model.h"

namespace roundhouse {

// The merge of two neighbouring tokens, if there is one. Open addressing with linear probing: a text asks it a few
// times a character, and std::unordered_map spends most of that on following pointers.
class MergeTable {
 public:
  struct Merge {
    int32_t rank;  // lower merges first
    int32_t merged;
  };

  explicit MergeTable(size_t expected);
  // The last of several merges of the same pair counts.
  void insert(int32_t left, int32_t right, Merge merge);
  const Merge* find(int32_t left, int32_t right) const;

 private:
  struct Slot {
    uint64_t pair = kFree;
    Merge merge;
  };
  static constexpr uint64_t kFree = ~uint64_t{0};  // no pair: ids are not negative

  size_t slot_of(uint64_t pair) const;  // where the pair is, or would be

  std::vector<Slot> slots_;  // a power of two, at most 2/3 used
};

class Bpe : public TokenModel {
 public:
  explicit Bpe(const Component& model);
  Bpe(const Bpe&) = delete;  // tokens_ points into vocabulary_
  Bpe& operator=(const Bpe&) = delete;

  // Appends the tokens of one word. Time is O(n log n) in its length.
  void encode(std::string_view word, std::vector<int32_t>& ids) const override;

  std::optional<int32_t> token_id(std::string_view token) const override;
  std::optional<std::string_view> token(int32_t id) const override;
  size_t vocab_size() const override { return vocabulary_.size(); }

 private:
  struct Token {
    std::string_view text;  // a key of vocabulary_, which never moves
    char32_t first;         // its first and last characters
    char32_t last;
  };

  void read_merges(const Component& model);
  // A word before merging: a token a character, or several where it falls back on bytes.
  std::vector<int32_t> split(std::string_view word) const;
  bool append_bytes(std::string_view text, std::vector<int32_t>& symbols) const;
  bool may_join(int32_t left, int32_t right) const;
  void merge(std::span<const int32_t> symbols, std::vector<int32_t>& ids) const;

  Vocabulary vocabulary_;
  std::unordered_map<int32_t, Token> tokens_;
  MergeTable merges_;
  std::unordered_set<uint64_t> joints_;  // last and first character on either side of the merges
  std::string unknown_name_;             // empty: unknown characters are left out
  std::optional<int32_t> unknown_;       // none, too, where the vocabulary lacks it
  std::string prefix_;                   // put before every character of a word but the first to look it up
  std::string suffix_;                   // put after the last
  bool fuse_unknown_;
  bool byte_fallback_;
  bool ignore_merges_;                               // a word in the vocabulary is one token, whatever its merges give
  std::vector<std::optional<int32_t>> byte_tokens_;  // <0x00> to <0xFF>
};

}  // namespace roundhouse
