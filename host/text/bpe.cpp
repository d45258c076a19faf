// SPDX-License-Identifier: Apache-2.0
#include "host/text/bpe.h"

#include <bit>
#include <queue>
#include <tuple>

#include "host/base/error.h"
#include "host/text/unicode.h"

namespace roundhouse {
namespace {

const nlohmann::json& merges_of(const Component& model) {
  const auto merges = model.json().find("merges");
  if (merges == model.json().end() || !merges->is_array()) model.fail("has no list of \"merges\"");
  return *merges;
}

// A merge is ["a", "b"], or "a b" in files of versions before 0.20.
std::pair<std::string, std::string> parts_of(const nlohmann::json& merge, size_t index, const Component& model) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    return {merge[0].get<std::string>(), merge[1].get<std::string>()};
  }
  if (merge.is_string()) {
    const auto& text = merge.get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space != text.npos && text.find(' ', space + 1) == text.npos) {
      return {text.substr(0, space), text.substr(space + 1)};
    }
  }
  model.fail(cat("merges[", index, "] is neither \"a b\" nor [\"a\", \"b\"]"));
}

char32_t first_of(std::string_view text) {
  size_t at = 0;
  return text.empty() ? 0 : unicode::next(text, at);
}

char32_t last_of(std::string_view text) {
  if (text.empty()) return 0;
  size_t at = unicode::last_begin(text);
  return unicode::next(text, at);
}

uint64_t joint_of(char32_t last, char32_t first) { return static_cast<uint64_t>(last) << 32 | first; }

}  // namespace

MergeTable::MergeTable(size_t expected) : slots_(std::bit_ceil(expected + expected / 2 + 1)) {}

size_t MergeTable::slot_of(uint64_t pair) const {
  // Fibonacci hashing: the multiplier is 2^64 over the golden ratio (Knuth, TAOCP 3, 6.4).
  size_t slot = static_cast<size_t>((pair * 0x9e3779b97f4a7c15u) >> 32) & (slots_.size() - 1);
  while (slots_[slot].pair != pair && slots_[slot].pair != kFree) slot = (slot + 1) & (slots_.size() - 1);
  return slot;
}

void MergeTable::insert(int32_t left, int32_t right, Merge merge) {
  const uint64_t pair = static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
  slots_[slot_of(pair)] = {pair, merge};
}

const MergeTable::Merge* MergeTable::find(int32_t left, int32_t right) const {
  const uint64_t pair = static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
  const Slot& slot = slots_[slot_of(pair)];
  return slot.pair == pair ? &slot.merge : nullptr;
}

Bpe::Bpe(const Component& model)
    : vocabulary_(read_vocabulary(model)),
      merges_(merges_of(model).size()),
      unknown_name_(optional_text(model, "unk_token")),
      prefix_(optional_text(model, "continuing_subword_prefix")),
      suffix_(optional_text(model, "end_of_word_suffix")),
      fuse_unknown_(model.flag("fuse_unk", false)),
      byte_fallback_(model.flag("byte_fallback", false)),
      ignore_merges_(model.flag("ignore_merges", false)) {
  const auto dropout = model.json().find("dropout");
  if (dropout != model.json().end() && !dropout->is_null() && *dropout != 0) {
    model.fail("\"dropout\" draws tokens at random; set it to null");
  }
  for (const auto& [text, id] : vocabulary_) tokens_[id] = {text, first_of(text), last_of(text)};
  if (!unknown_name_.empty()) unknown_ = token_id(unknown_name_);
  if (byte_fallback_) byte_tokens_ = byte_tokens(vocabulary_);
  read_merges(model);
}

void Bpe::read_merges(const Component& model) {
  const nlohmann::json& merges = merges_of(model);
  const auto id_of = [&](const std::string& token, size_t index) {
    const auto id = token_id(token);
    if (!id) model.fail(cat("merges[", index, "] needs the token \"", token, "\", which is not in the vocabulary"));
    return *id;
  };
  for (size_t i = 0; i < merges.size(); ++i) {
    if (merges[i].is_string() && merges[i].get_ref<const std::string&>().starts_with("#version")) continue;
    const auto [left, right] = parts_of(merges[i], i, model);
    const int32_t left_id = id_of(left, i);
    const int32_t right_id = id_of(right, i);
    if (!prefix_.empty() && right.size() <= prefix_.size()) {
      model.fail(cat("merges[", i, "] has nothing after the continuing_subword_prefix"));
    }
    const int32_t merged = id_of(left + right.substr(prefix_.size()), i);
    merges_.insert(left_id, right_id, {static_cast<int32_t>(i), merged});
    joints_.insert(joint_of(last_of(left), first_of(right)));
  }
}

std::optional<int32_t> Bpe::token_id(std::string_view token) const {
  const auto found = vocabulary_.find(token);
  return found == vocabulary_.end() ? std::nullopt : std::optional(found->second);
}

std::optional<std::string_view> Bpe::token(int32_t id) const {
  const auto found = tokens_.find(id);
  return found == tokens_.end() ? std::nullopt : std::optional(found->second.text);
}

bool Bpe::append_bytes(std::string_view text, std::vector<int32_t>& symbols) const {
  for (const char byte : text) {
    if (!byte_tokens_[static_cast<uint8_t>(byte)]) return false;
  }
  for (const char byte : text) symbols.push_back(*byte_tokens_[static_cast<uint8_t>(byte)]);
  return true;
}

std::vector<int32_t> Bpe::split(std::string_view word) const {
  std::vector<int32_t> symbols;
  symbols.reserve(word.size());
  // An unknown character waits here so that the next can fuse with it; only a known one sends it ahead. (The bytes of
  // a fallback overtake it, as they do in the package.)
  bool unknown_waits = false;
  const auto flush_unknown = [&] {
    if (unknown_waits) symbols.push_back(*unknown_);
    unknown_waits = false;
  };
  std::string decorated;
  for (size_t at = 0; at < word.size();) {
    const size_t begin = at;
    unicode::next(word, at);
    std::string_view text = word.substr(begin, at - begin);
    const bool prefixed = begin > 0 && !prefix_.empty();
    const bool suffixed = at == word.size() && !suffix_.empty();
    if (prefixed || suffixed) {
      decorated = cat(prefixed ? prefix_ : "", text, suffixed ? suffix_ : "");
      text = decorated;
    }
    if (const auto id = token_id(text)) {
      flush_unknown();
      symbols.push_back(*id);
    } else if (byte_fallback_ && append_bytes(text, symbols)) {
      continue;
    } else if (!unknown_name_.empty()) {
      if (!unknown_) fail_unknown(text, unknown_name_);
      if (!fuse_unknown_) flush_unknown();
      unknown_waits = true;
    }
  }
  flush_unknown();
  return symbols;
}

// Whether any merge could ever join what ends in `left` with what begins with `right`. A merged token begins and ends
// with the characters that its parts began and ended with, so the characters here decide it.
bool Bpe::may_join(int32_t left, int32_t right) const {
  if (tokens_.size() != vocabulary_.size()) return true;  // two texts with one id: the characters cannot be told
  return joints_.contains(joint_of(tokens_.at(left).last, tokens_.at(right).first));
}

void Bpe::merge(std::span<const int32_t> symbols, std::vector<int32_t>& ids) const {
  struct Node {
    int32_t id;
    int32_t previous;  // index of the neighbour; -1 at either end
    int32_t next;
    bool merged_away;
  };
  struct Candidate {
    int32_t rank;
    int32_t left;  // index of the left node
    int32_t merged;
    bool operator>(const Candidate& other) const { return std::tie(rank, left) > std::tie(other.rank, other.left); }
  };
  const auto count = static_cast<int32_t>(symbols.size());
  std::vector<Node> nodes;
  nodes.reserve(symbols.size());
  for (int32_t i = 0; i < count; ++i) nodes.push_back({symbols[i], i - 1, i + 1 < count ? i + 1 : -1, false});

  std::vector<Candidate> storage;
  storage.reserve(symbols.size());
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue(std::greater<>(), std::move(storage));
  const auto offer = [&](int32_t left, int32_t right) {
    if (left < 0 || right < 0) return;
    if (const auto* merge = merges_.find(nodes[left].id, nodes[right].id)) {
      queue.push({merge->rank, left, merge->merged});
    }
  };
  for (int32_t i = 0; i + 1 < count; ++i) offer(i, i + 1);
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    Node& left = nodes[best.left];
    if (left.merged_away || left.next < 0) continue;
    Node& right = nodes[left.next];
    const auto* merge = merges_.find(left.id, right.id);  // either side may have merged since
    if (merge == nullptr || merge->merged != best.merged) continue;
    left.id = best.merged;
    left.next = right.next;
    right.merged_away = true;
    if (left.next >= 0) nodes[left.next].previous = best.left;
    offer(left.previous, best.left);
    offer(best.left, left.next);
  }
  for (const Node& node : nodes) {
    if (!node.merged_away) ids.push_back(node.id);
  }
}

void Bpe::encode(std::string_view word, std::vector<int32_t>& ids) const {
  if (ignore_merges_) {
    if (const auto id = token_id(word)) return ids.push_back(*id);
  }
  const std::vector<int32_t> symbols = split(word);
  // Without a pre-tokenizer the "word" is a whole text. Merging it in parts that no merge can join gives the same
  // tokens from queues of a few entries; looking for the parts of a short word costs more than it saves.
  constexpr size_t kShort = 32;
  size_t begin = 0;
  for (size_t i = 1; symbols.size() > kShort && i < symbols.size(); ++i) {
    if (may_join(symbols[i - 1], symbols[i])) continue;
    merge(std::span(symbols).subspan(begin, i - begin), ids);
    begin = i;
  }
  merge(std::span(symbols).subspan(begin), ids);
}

}  // namespace roundhouse
