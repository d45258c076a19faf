// SPDX-License-Identifier: Apache-2.0
#include "host/text/pre_tokenizer.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "host/base/error.h"
#include "host/text/byte_level.h"
#include "host/text/unicode.h"

namespace roundhouse {
namespace {

// What becomes of the delimiters of a split.
enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

Behavior behavior_of(const Component& component) {
  const std::string name = component.text("behavior");
  if (name == "Removed") return Behavior::kRemoved;
  if (name == "Isolated") return Behavior::kIsolated;
  if (name == "MergedWithPrevious") return Behavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return Behavior::kMergedWithNext;
  if (name == "Contiguous") return Behavior::kContiguous;
  component.fail(
      cat("\"behavior\" ", name, " is none of Removed, Isolated, MergedWithPrevious, MergedWithNext and Contiguous"));
}

// The spans joined as `behavior` asks; a delimiter joins its neighbour unless that is a delimiter already joined.
std::vector<Span> joined(const std::vector<Span>& spans, Behavior behavior) {
  std::vector<Span> result;
  switch (behavior) {
    case Behavior::kIsolated:
      return spans;
    case Behavior::kRemoved:
      std::copy_if(spans.begin(), spans.end(), std::back_inserter(result),
                   [](const Span& span) { return !span.match; });
      return result;
    case Behavior::kContiguous:
      for (const Span& span : spans) {
        if (!result.empty() && result.back().match == span.match) {
          result.back().end = span.end;
        } else {
          result.push_back(span);
        }
      }
      return result;
    case Behavior::kMergedWithPrevious:
      for (size_t i = 0; i < spans.size(); ++i) {
        if (i > 0 && spans[i].match && !spans[i - 1].match) {
          result.back().end = spans[i].end;
        } else {
          result.push_back(spans[i]);
        }
      }
      return result;
    case Behavior::kMergedWithNext:
      for (size_t i = spans.size(); i-- > 0;) {
        if (i + 1 < spans.size() && spans[i].match && !spans[i + 1].match) {
          result.back().begin = spans[i].begin;
        } else {
          result.push_back(spans[i]);
        }
      }
      std::reverse(result.begin(), result.end());
      return result;
  }
  return result;
}

void split_at(Piece piece, const std::vector<Span>& spans, Behavior behavior, std::vector<Piece>& parts) {
  for (const Span& span : joined(spans, behavior)) {
    if (span.begin == span.end) continue;
    if (span.begin == 0 && span.end == piece.text.size()) return parts.push_back(std::move(piece));
    parts.push_back({piece.text.substr(span.begin, span.end - span.begin), piece.at_start && span.begin == 0});
  }
}

// Every character that `is_delimiter` accepts is a match of its own.
template <typename Predicate>
std::vector<Span> character_spans(std::string_view text, Predicate is_delimiter) {
  std::vector<Span> spans;
  size_t covered = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    if (!is_delimiter(unicode::next(text, at))) continue;
    if (covered < begin) spans.push_back({covered, begin, false});
    spans.push_back({begin, at, true});
    covered = at;
  }
  if (covered < text.size()) spans.push_back({covered, text.size(), false});
  return spans;
}

class Sequence : public PreTokenizer {
 public:
  explicit Sequence(const Component& component) {
    for (const Component& part : component.list("pretokenizers")) steps_.push_back(make_pre_tokenizer(part));
  }
  void split(Piece piece, std::vector<Piece>& parts) const override {
    std::vector<Piece> pieces;
    pieces.push_back(std::move(piece));
    for (const auto& step : steps_) {
      std::vector<Piece> finer;
      finer.reserve(pieces.size());
      for (Piece& each : pieces) step->split(std::move(each), finer);
      pieces = std::move(finer);
    }
    std::move(pieces.begin(), pieces.end(), std::back_inserter(parts));
  }

 private:
  std::vector<std::unique_ptr<const PreTokenizer>> steps_;
};

class ByteLevel : public PreTokenizer {
 public:
  explicit ByteLevel(const Component& component)
      : add_prefix_space_(component.flag("add_prefix_space")), use_regex_(component.flag("use_regex", true)) {}
  void split(Piece piece, std::vector<Piece>& parts) const override {
    if (add_prefix_space_ && !piece.text.starts_with(' ')) piece.text.insert(piece.text.begin(), ' ');
    const size_t first = parts.size();
    if (use_regex_) {
      const std::vector<Span> spans = words().spans(piece.text);
      split_at(std::move(piece), spans, Behavior::kIsolated, parts);
    } else {
      parts.push_back(std::move(piece));
    }
    for (size_t i = first; i < parts.size(); ++i) {
      parts[i].text = ByteLevelAlphabet::instance().encode(parts[i].text);
    }
  }

 private:
  // The words of GPT-2's encoder.py.
  static const Regex& words() {
    static const Regex regex(R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)");
    return regex;
  }

  bool add_prefix_space_;
  bool use_regex_;
};

class Split : public PreTokenizer {
 public:
  explicit Split(const Component& component)
      : pattern_(component.pattern("pattern")), behavior_(behavior_of(component)), invert_(component.flag("invert")) {}
  void split(Piece piece, std::vector<Piece>& parts) const override {
    std::vector<Span> spans = pattern_.spans(piece.text);
    if (invert_) {
      for (Span& span : spans) span.match = !span.match;
    }
    split_at(std::move(piece), spans, behavior_, parts);
  }

 private:
  Pattern pattern_;
  Behavior behavior_;
  bool invert_;
};

class Metaspace : public PreTokenizer {
 public:
  explicit Metaspace(const Component& component)
      : mark_(component.character("replacement")),
        mark_text_(unicode::to_utf8(mark_)),
        scheme_(scheme_of(component)),
        split_(component.flag("split", true)) {}
  void split(Piece piece, std::vector<Piece>& parts) const override {
    std::string marked;
    marked.reserve(piece.text.size());
    for (const char c : piece.text) {
      if (c == ' ') {
        marked += mark_text_;
      } else {
        marked += c;
      }
    }
    const bool prepend = scheme_ == Scheme::kAlways || (scheme_ == Scheme::kFirst && piece.at_start);
    if (prepend && !marked.starts_with(mark_text_)) marked.insert(0, mark_text_);
    piece.text = std::move(marked);
    if (!split_) return parts.push_back(std::move(piece));
    const auto spans = character_spans(piece.text, [this](char32_t c) { return c == mark_; });
    split_at(std::move(piece), spans, Behavior::kMergedWithNext, parts);
  }

 private:
  enum class Scheme { kAlways, kFirst, kNever };

  static Scheme scheme_of(const Component& component) {
    const std::string name = component.json().contains("prepend_scheme") ? component.text("prepend_scheme") : "always";
    const bool add_prefix_space = component.flag("add_prefix_space", true);  // the key of old files
    if (name == "never" || !add_prefix_space) return Scheme::kNever;
    if (name == "always") return Scheme::kAlways;
    if (name == "first") return Scheme::kFirst;
    component.fail(cat("\"prepend_scheme\" ", name, " is none of always, first and never"));
  }

  char32_t mark_;
  std::string mark_text_;
  Scheme scheme_;
  bool split_;
};

// Splits at every character of a kind.
class CharacterSplit : public PreTokenizer {
 public:
  using Predicate = std::function<bool(char32_t)>;
  CharacterSplit(Predicate is_delimiter, Behavior behavior)
      : is_delimiter_(std::move(is_delimiter)), behavior_(behavior) {}
  void split(Piece piece, std::vector<Piece>& parts) const override {
    const std::vector<Span> spans = character_spans(piece.text, is_delimiter_);
    split_at(std::move(piece), spans, behavior_, parts);
  }

 private:
  Predicate is_delimiter_;
  Behavior behavior_;
};

// Words and runs of other characters, without the white space between them.
class Whitespace : public PreTokenizer {
 public:
  void split(Piece piece, std::vector<Piece>& parts) const override {
    // A word character as Unicode's annex 18 defines it, which is wider than Oniguruma's \w.
    static const Regex words(
        R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200c}\x{200d}]+|[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200c}\x{200d}\s]+)");
    std::vector<Span> spans = words.spans(piece.text);
    for (Span& span : spans) span.match = !span.match;
    split_at(std::move(piece), spans, Behavior::kRemoved, parts);
  }
};

// BERT's words: between white space, every punctuation mark by itself.
class Bert : public PreTokenizer {
 public:
  void split(Piece piece, std::vector<Piece>& parts) const override {
    std::vector<Piece> words;
    const std::vector<Span> spaces = character_spans(piece.text, unicode::is_whitespace);
    split_at(std::move(piece), spaces, Behavior::kRemoved, words);
    for (Piece& word : words) {
      const std::vector<Span> spans = character_spans(word.text, unicode::is_punctuation);
      split_at(std::move(word), spans, Behavior::kIsolated, parts);
    }
  }
};

}  // namespace

std::unique_ptr<const PreTokenizer> make_pre_tokenizer(const Component& component) {
  const std::string& type = component.type();
  if (type == "Sequence") return std::make_unique<Sequence>(component);
  if (type == "ByteLevel") return std::make_unique<ByteLevel>(component);
  if (type == "Split") return std::make_unique<Split>(component);
  if (type == "Metaspace") return std::make_unique<Metaspace>(component);
  if (type == "Whitespace") return std::make_unique<Whitespace>();
  if (type == "WhitespaceSplit") return std::make_unique<CharacterSplit>(unicode::is_whitespace, Behavior::kRemoved);
  if (type == "Digits") {
    const Behavior behavior = component.flag("individual_digits") ? Behavior::kIsolated : Behavior::kContiguous;
    return std::make_unique<CharacterSplit>(unicode::is_numeric, behavior);
  }
  if (type == "Punctuation") {
    const Behavior behavior = component.json().contains("behavior") ? behavior_of(component) : Behavior::kIsolated;
    return std::make_unique<CharacterSplit>(unicode::is_punctuation, behavior);
  }
  if (type == "CharDelimiterSplit") {
    const char32_t delimiter = component.character("delimiter");
    return std::make_unique<CharacterSplit>([delimiter](char32_t c) { return c == delimiter; }, Behavior::kRemoved);
  }
  if (type == "BertPreTokenizer") return std::make_unique<Bert>();
  component.unsupported(
      "Sequence, ByteLevel, Split, Metaspace, Whitespace, WhitespaceSplit, Digits, Punctuation, CharDelimiterSplit and "
      "BertPreTokenizer");
}

}  // namespace roundhouse
