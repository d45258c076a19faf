// SPDX-License-Identifier: Apache-2.0
#include "host/text/unigram.h"

#include <algorithm>
#include <limits>

#include "host/base/error.h"
#include "host/text/unicode.h"

namespace roundhouse {
namespace {

constexpr double kUnknownPenalty = 10;  // SentencePiece's kUnkPenalty: below the lowest score

}  // namespace

Unigram::Unigram(const Component& model) : byte_fallback_(model.flag("byte_fallback", false)) {
  const auto vocab = model.json().find("vocab");
  if (vocab == model.json().end() || !vocab->is_array()) model.fail("has no \"vocab\" list");
  double lowest = std::numeric_limits<double>::infinity();
  for (const nlohmann::json& entry : *vocab) {
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number()) {
      model.fail(cat("vocab[", pieces_.size(), "] is not [\"piece\", score]"));
    }
    const auto& [piece, score] = pieces_.emplace_back(entry[0].get<std::string>(), entry[1].get<double>());
    ids_[piece] = static_cast<int32_t>(pieces_.size()) - 1;  // of two alike, the last counts
    lowest = std::min(lowest, score);
  }
  for (const auto& [piece, id] : ids_) {
    if (!piece.empty()) trie_.insert(piece, id);
  }
  unknown_score_ = lowest - kUnknownPenalty;
  if (const auto unknown = model.json().find("unk_id"); unknown != model.json().end() && !unknown->is_null()) {
    if (model.count("unk_id") >= pieces_.size()) model.fail("\"unk_id\" is beyond the vocabulary");
    unknown_ = static_cast<int32_t>(model.count("unk_id"));
  }
  if (byte_fallback_) byte_tokens_ = byte_tokens(ids_);
}

std::optional<int32_t> Unigram::token_id(std::string_view token) const {
  const auto found = ids_.find(token);
  return found == ids_.end() ? std::nullopt : std::optional(found->second);
}

std::optional<std::string_view> Unigram::token(int32_t id) const {
  if (id < 0 || id >= std::ssize(pieces_)) return std::nullopt;
  return pieces_[static_cast<size_t>(id)].first;
}

void Unigram::append(std::string_view text, std::vector<int32_t>& ids) const {
  if (const auto id = token_id(text)) return ids.push_back(*id);
  const auto known = [this](char byte) { return byte_tokens_[static_cast<uint8_t>(byte)].has_value(); };
  if (byte_fallback_ && std::all_of(text.begin(), text.end(), known)) {
    for (const char byte : text) ids.push_back(*byte_tokens_[static_cast<uint8_t>(byte)]);
    return;
  }
  if (!unknown_) fail_unknown(text, "");
  ids.push_back(*unknown_);
}

// The Viterbi search of SentencePiece's Model::EncodeOptimized, in double as the package does it: of two paths with the
// same score, the first found stays.
void Unigram::encode(std::string_view word, std::vector<int32_t>& ids) const {
  struct Node {
    double score = 0;    // of the best path that ends here
    int64_t begin = -1;  // of that path's last piece; -1: no path yet
    int32_t id = 0;
  };
  std::vector<Node> ends(word.size() + 1);
  const auto offer = [&ends](size_t begin, size_t length, int32_t id, double score) {
    Node& node = ends[begin + length];
    const double candidate = score + ends[begin].score;
    if (node.begin < 0 || candidate > node.score) node = {candidate, static_cast<int64_t>(begin), id};
  };
  for (size_t at = 0; at < word.size();) {
    size_t next = at;
    unicode::next(word, next);
    bool single = false;  // a piece of just this character
    trie_.visit_prefixes(word, at, [&](const Trie::Match& match) {
      offer(at, match.length, match.id, pieces_[static_cast<size_t>(match.id)].second);
      single |= match.length == next - at;
    });
    if (!single) {
      if (!unknown_) fail_unknown(word.substr(at, next - at), "");
      offer(at, next - at, *unknown_, unknown_score_);
    }
    at = next;
  }
  std::vector<std::string_view> path;  // from the end; neighbouring unknowns are one
  bool unknown_waits = false;
  for (size_t end = word.size(); end > 0;) {
    const auto begin = static_cast<size_t>(ends[end].begin);
    const std::string_view piece = word.substr(begin, end - begin);
    const bool unknown = unknown_ == ends[end].id;
    if (unknown && unknown_waits) {
      path.back() = {piece.data(), piece.size() + path.back().size()};
    } else {
      path.push_back(piece);
    }
    unknown_waits = unknown;
    end = begin;
  }
  for (auto piece = path.rbegin(); piece != path.rend(); ++piece) append(*piece, ids);
}

}  // namespace roundhouse
