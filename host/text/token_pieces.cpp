// SPDX-License-Identifier: Apache-2.0
#include "host/text/token_pieces.h"

#include <algorithm>
#include <cassert>

namespace roundhouse {
namespace {

constexpr size_t kPartBytes = 64 << 10;
// More than tokens have on the average, so that a part nearly always fills a piece.
constexpr size_t kBytesPerToken = 16;
constexpr size_t kLongestWhole = 1 << 20;

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

// How many bytes of the text to take: up to `size`, and not through a word if that can be helped, nor through a
// character.
size_t part_of(std::string_view text, size_t size) {
  if (text.size() <= size + size / 2) return text.size();
  for (size_t at = size; at > size / 2; --at)
    if (is_space(text[at]) && !is_space(text[at - 1])) return at;
  while (size > 0 && (static_cast<unsigned char>(text[size]) & 0xc0) == 0x80) --size;
  return size;
}

}  // namespace

TokenPieces::TokenPieces(std::string_view text, const Tokenizer& tokenizer, bool special_tokens, size_t length)
    : rest_(text), tokenizer_(&tokenizer), special_tokens_(special_tokens), length_(length) {
  assert(length > 0);
}

std::string_view TokenPieces::take_part() {
  const size_t size = part_of(rest_, std::max(kPartBytes, kBytesPerToken * length_));
  const std::string_view part = rest_.substr(0, size);
  rest_.remove_prefix(size);
  return part;
}

std::vector<int32_t> TokenPieces::first() {
  const std::string_view whole = rest_;
  part_ = take_part();
  std::vector<int32_t> ids = tokenizer_->encode(part_, special_tokens_, length_);
  while (ids.size() < length_ && !rest_.empty()) {
    part_ = whole.substr(0, part_.size() + take_part().size());
    ids = tokenizer_->encode(part_, special_tokens_, length_);
  }
  return ids;
}

// What the first piece left of the part that it was cut from.
void TokenPieces::begin_second() {
  const size_t special = special_tokens_ ? tokenizer_->encode("", true).size() : 0;
  const size_t given = length_ - std::min(length_, special);
  ready_ = tokenizer_->encode(part_, false);
  ready_.erase(ready_.begin(), ready_.begin() + static_cast<std::ptrdiff_t>(std::min(given, ready_.size())));
}

std::vector<int32_t> TokenPieces::next() {
  if (given_++ == 0) return first();
  if (given_ == 2) begin_second();
  while (ready_.size() < length_ && !rest_.empty()) {
    const std::vector<int32_t> ids = tokenizer_->encode(take_part(), false);
    ready_.insert(ready_.end(), ids.begin(), ids.end());
  }
  const auto end = ready_.begin() + static_cast<std::ptrdiff_t>(std::min(length_, ready_.size()));
  std::vector<int32_t> piece(ready_.begin(), end);
  ready_.erase(ready_.begin(), end);
  return piece;
}

std::vector<int32_t> encode_in_parts(std::string_view text, const Tokenizer& tokenizer, bool special_tokens) {
  std::vector<int32_t> ids;
  for (bool first = true; first || !text.empty(); first = false) {
    const size_t size = part_of(text, kLongestWhole);
    const std::vector<int32_t> part = tokenizer.encode(text.substr(0, size), special_tokens && first);
    ids.insert(ids.end(), part.begin(), part.end());
    text.remove_prefix(size);
  }
  return ids;
}

}  // namespace roundhouse
