// SPDX-License-Identifier: Apache-2.0
// Finds which of a set of strings begin at a position of a text.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace roundhouse {

class Trie {
 public:
  // The first of two equal strings counts. REQUIRES: text is not empty.
  void insert(std::string_view text, int32_t id);

  struct Match {
    size_t length;
    int32_t id;
  };
  // Calls visit(Match) for every string that begins at text[at], the shortest first.
  template <typename Visit>
  void visit_prefixes(std::string_view text, size_t at, Visit visit) const {
    const Node* node = &nodes_.front();
    for (size_t end = at; end < text.size(); ++end) {
      node = child(*node, text[end]);
      if (node == nullptr) return;
      if (node->id >= 0) visit(Match{end + 1 - at, node->id});
    }
  }
  std::optional<Match> longest_at(std::string_view text, size_t at) const;

 private:
  struct Node {
    std::vector<std::pair<char, int32_t>> children;  // byte, index of the node; sorted
    int32_t id = -1;
  };
  const Node* child(const Node& node, char byte) const;

  std::vector<Node> nodes_{1};  // the root first
};

}  // namespace roundhouse
