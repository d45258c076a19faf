// SPDX-License-Identifier: Apache-2.0
#include "host/text/trie.h"

#include <algorithm>
#include <cassert>

namespace roundhouse {
namespace {

using Child = std::pair<char, int32_t>;

// The first child whose byte is not before `byte`.
template <typename Children>
auto find_child(Children& children, char byte) {
  return std::lower_bound(children.begin(), children.end(), byte,
                          [](const Child& child, char wanted) { return child.first < wanted; });
}

}  // namespace

const Trie::Node* Trie::child(const Node& node, char byte) const {
  const auto found = find_child(node.children, byte);
  const bool there = found != node.children.end() && found->first == byte;
  return there ? &nodes_[static_cast<size_t>(found->second)] : nullptr;
}

void Trie::insert(std::string_view text, int32_t id) {
  assert(!text.empty());
  size_t at = 0;
  for (const char byte : text) {
    const Node* next = child(nodes_[at], byte);
    if (next == nullptr) {
      auto& children = nodes_[at].children;
      children.insert(find_child(children, byte), Child(byte, static_cast<int32_t>(nodes_.size())));
      next = &nodes_.emplace_back();
    }
    at = static_cast<size_t>(next - nodes_.data());
  }
  if (nodes_[at].id < 0) nodes_[at].id = id;
}

std::optional<Trie::Match> Trie::longest_at(std::string_view text, size_t at) const {
  std::optional<Match> longest;
  visit_prefixes(text, at, [&](const Match& match) { longest = match; });
  return longest;
}

}  // namespace roundhouse
