// SPDX-License-Identifier: Apache-2.0
#include "host/text/normalizer.h"

#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "host/base/error.h"
#include "host/text/base64.h"
#include "host/text/byte_level.h"
#include "host/text/charsmap.h"
#include "host/text/unicode.h"

namespace roundhouse {
namespace {

class Sequence : public Normalizer {
 public:
  explicit Sequence(const Component& component) {
    for (const Component& part : component.list("normalizers")) parts_.push_back(make_normalizer(part));
  }
  void apply(Piece& piece) const override {
    for (const auto& part : parts_) part->apply(piece);
  }

 private:
  std::vector<std::unique_ptr<const Normalizer>> parts_;
};

class Prepend : public Normalizer {
 public:
  explicit Prepend(const Component& component) : text_(component.text("prepend")) {}
  void apply(Piece& piece) const override {
    if (!piece.text.empty()) piece.text.insert(0, text_);
  }

 private:
  std::string text_;
};

class Replace : public Normalizer {
 public:
  explicit Replace(const Component& component)
      : pattern_(component.pattern("pattern")), content_(component.text("content")) {}
  void apply(Piece& piece) const override {
    std::string replaced;
    replaced.reserve(piece.text.size());
    for (const Span& span : pattern_.spans(piece.text)) {
      const std::string_view part = std::string_view(piece.text).substr(span.begin, span.end - span.begin);
      if (span.match && span.begin == 0 && span.end > 0 && loses_start(part)) piece.at_start = false;
      replaced += span.match ? std::string_view(content_) : part;
    }
    piece.text = std::move(replaced);
  }

 private:
  // What replaces several characters counts as coming from the last of them.
  bool loses_start(std::string_view match) const {
    size_t first = 0;
    unicode::next(match, first);
    return content_.empty() || first < match.size();
  }

  Pattern pattern_;
  std::string content_;
};

class UnicodeForm : public Normalizer {
 public:
  explicit UnicodeForm(unicode::Form form) : form_(form) {}
  void apply(Piece& piece) const override { piece.text = unicode::normalize(piece.text, form_); }

 private:
  unicode::Form form_;
};

class Strip : public Normalizer {
 public:
  explicit Strip(const Component& component)
      : left_(component.flag("strip_left")), right_(component.flag("strip_right")) {}
  void apply(Piece& piece) const override {
    if (right_) piece.text.resize(piece.text.size() - unicode::trailing_whitespace(piece.text));
    const size_t leading = left_ ? unicode::leading_whitespace(piece.text) : 0;
    piece.text.erase(0, leading);
    if (leading > 0) piece.at_start = false;
  }

 private:
  bool left_;
  bool right_;
};

class StripAccents : public Normalizer {
 public:
  void apply(Piece& piece) const override {
    std::string kept;
    for (size_t at = 0; at < piece.text.size();) {
      const bool first = at == 0;
      const char32_t c = unicode::next(piece.text, at);
      if (!unicode::is_mark(c)) {
        unicode::append(kept, c);
      } else if (first) {
        piece.at_start = false;
      }
    }
    piece.text = std::move(kept);
  }
};

class Lowercase : public Normalizer {
 public:
  void apply(Piece& piece) const override {
    std::string lower;
    lower.reserve(piece.text.size());
    for (size_t at = 0; at < piece.text.size();) unicode::append_lower(lower, unicode::next(piece.text, at));
    piece.text = std::move(lower);
  }
};

class ByteLevel : public Normalizer {
 public:
  void apply(Piece& piece) const override { piece.text = ByteLevelAlphabet::instance().encode(piece.text); }
};

class Precompiled : public Normalizer {
 public:
  explicit Precompiled(const Component& component) : charsmap_(read(component)) {}
  void apply(Piece& piece) const override { piece.text = charsmap_.normalize(piece.text); }

 private:
  static Charsmap read(const Component& component) {
    const auto bytes = decode_base64(component.text("precompiled_charsmap"));
    if (!bytes) component.fail("\"precompiled_charsmap\" is not base64");
    try {
      return Charsmap(*bytes);
    } catch (const Error& error) {
      component.fail(cat("\"precompiled_charsmap\": ", error.what()));
    }
  }

  Charsmap charsmap_;
};

// SentencePiece's rules for machine translation: without controls, every kind of space a space.
class Nmt : public Normalizer {
 public:
  void apply(Piece& piece) const override {
    std::string kept;
    for (size_t at = 0; at < piece.text.size();) {
      const bool first = at == 0;
      const char32_t c = unicode::next(piece.text, at);
      if (is_space(c)) {
        kept += ' ';
      } else if (!is_removed(c)) {
        unicode::append(kept, c);
      } else if (first) {
        piece.at_start = false;
      }
    }
    piece.text = std::move(kept);
  }

 private:
  static bool is_removed(char32_t c) {
    return (c >= 0x1 && c <= 0x8) || c == 0xb || (c >= 0xe && c <= 0x1f) || c == 0x7f || c == 0x8f || c == 0x9f;
  }
  static bool is_space(char32_t c) {
    return c == 0x9 || c == 0xa || c == 0xc || c == 0xd || c == 0x1680 || (c >= 0x200b && c <= 0x200f) || c == 0x2028 ||
           c == 0x2029 || c == 0x2581 || c == 0xfeff || c == 0xfffd;
  }
};

// BERT's BasicTokenizer, up to its splitting.
class Bert : public Normalizer {
 public:
  explicit Bert(const Component& component)
      : clean_(component.flag("clean_text")),
        chinese_(component.flag("handle_chinese_chars")),
        lowercase_(component.flag("lowercase")),
        strip_accents_(component.flag("strip_accents", lowercase_)) {}
  void apply(Piece& piece) const override {
    std::string text;
    for (size_t at = 0; at < piece.text.size();) {
      const char32_t c = unicode::next(piece.text, at);
      if (clean_ && is_removed(c)) continue;
      const bool spaced = chinese_ && is_chinese(c);
      if (spaced) text += ' ';
      unicode::append(text, clean_ && unicode::is_whitespace(c) ? ' ' : c);
      if (spaced) text += ' ';
    }
    if (strip_accents_) text = without_accents(unicode::normalize(text, unicode::Form::kNFD));
    piece.text.clear();
    for (size_t at = 0; at < text.size();) {
      const char32_t c = unicode::next(text, at);
      lowercase_ ? unicode::append_lower(piece.text, c) : unicode::append(piece.text, c);
    }
  }

 private:
  static bool is_removed(char32_t c) {
    return c == 0 || c == 0xfffd || (c != '\t' && c != '\n' && c != '\r' && unicode::is_control(c));
  }
  // The package's blocks of ideographs, with its gap before 0x2b920.
  static bool is_chinese(char32_t c) {
    return (c >= 0x3400 && c <= 0x4dbf) || (c >= 0x4e00 && c <= 0x9fff) || (c >= 0xf900 && c <= 0xfaff) ||
           (c >= 0x20000 && c <= 0x2a6df) || (c >= 0x2a700 && c <= 0x2b81f) || (c >= 0x2b920 && c <= 0x2ceaf) ||
           (c >= 0x2f800 && c <= 0x2fa1f);
  }
  static std::string without_accents(const std::string& text) {
    std::string kept;
    for (size_t at = 0; at < text.size();) {
      const char32_t c = unicode::next(text, at);
      if (!unicode::is_accent(c)) unicode::append(kept, c);
    }
    return kept;
  }

  bool clean_;
  bool chinese_;
  bool lowercase_;
  bool strip_accents_;
};

std::optional<unicode::Form> form_named(const std::string& name) {
  if (name == "NFC") return unicode::Form::kNFC;
  if (name == "NFD") return unicode::Form::kNFD;
  if (name == "NFKC") return unicode::Form::kNFKC;
  if (name == "NFKD") return unicode::Form::kNFKD;
  return std::nullopt;
}

}  // namespace

std::unique_ptr<const Normalizer> make_normalizer(const Component& component) {
  const std::string& type = component.type();
  if (type == "Sequence") return std::make_unique<Sequence>(component);
  if (type == "Prepend") return std::make_unique<Prepend>(component);
  if (type == "Replace") return std::make_unique<Replace>(component);
  if (const auto form = form_named(type)) return std::make_unique<UnicodeForm>(*form);
  if (type == "Strip") return std::make_unique<Strip>(component);
  if (type == "StripAccents") return std::make_unique<StripAccents>();
  if (type == "Lowercase") return std::make_unique<Lowercase>();
  if (type == "ByteLevel") return std::make_unique<ByteLevel>();
  if (type == "Precompiled") return std::make_unique<Precompiled>(component);
  if (type == "Nmt") return std::make_unique<Nmt>();
  if (type == "BertNormalizer") return std::make_unique<Bert>(component);
  component.unsupported(
      "Sequence, Prepend, Replace, NFC, NFD, NFKC, NFKD, Strip, StripAccents, Lowercase, ByteLevel, Precompiled, Nmt "
      "and BertNormalizer");
}

}  // namespace roundhouse
