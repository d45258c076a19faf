// SPDX-License-Identifier: Apache-2.0
#include "host/text/token_decoder.h"

#include <charconv>
#include <optional>
#include <utility>

#include "host/text/byte_level.h"
#include "host/text/unicode.h"

namespace roundhouse {
namespace {

using Strings = std::vector<std::string>;

std::string join(const Strings& parts) {
  std::string text;
  for (const std::string& part : parts) text += part;
  return text;
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
}

class Sequence : public Decoder {
 public:
  explicit Sequence(const Component& component) {
    for (const Component& part : component.list("decoders")) steps_.push_back(make_decoder(part));
  }
  Strings apply(Strings tokens) const override {
    for (const auto& step : steps_) tokens = step->apply(std::move(tokens));
    return tokens;
  }

 private:
  std::vector<std::unique_ptr<const Decoder>> steps_;
};

// Characters of the byte-level alphabet become bytes; a token with any other character stays as it is.
class ByteLevel : public Decoder {
 public:
  Strings apply(Strings tokens) const override {
    std::string bytes;
    for (const std::string& token : tokens) bytes += bytes_of(token).value_or(token);
    return {unicode::replace_invalid(bytes)};
  }

 private:
  static std::optional<std::string> bytes_of(const std::string& token) {
    std::string bytes;
    for (size_t at = 0; at < token.size();) {
      const auto byte = ByteLevelAlphabet::instance().byte_of(unicode::next(token, at));
      if (!byte) return std::nullopt;
      bytes += *byte;
    }
    return bytes;
  }
};

// Runs of tokens like <0x61> become text, or one U+FFFD a byte where they are not valid UTF-8.
class ByteFallback : public Decoder {
 public:
  Strings apply(Strings tokens) const override {
    Strings result;
    std::string bytes;
    const auto flush = [&] {
      const std::string text = unicode::replace_invalid(bytes);
      if (text == bytes) {
        if (!bytes.empty()) result.push_back(text);
      } else {
        result.insert(result.end(), bytes.size(), unicode::to_utf8(0xfffd));
      }
      bytes.clear();
    };
    for (std::string& token : tokens) {
      if (const auto byte = byte_of(token)) {
        bytes += *byte;
      } else {
        flush();
        result.push_back(std::move(token));
      }
    }
    flush();
    return result;
  }

 private:
  static std::optional<char> byte_of(const std::string& token) {
    if (token.size() != 6 || !token.starts_with("<0x") || !token.ends_with('>')) return std::nullopt;
    unsigned value = 0;
    const auto [end, error] = std::from_chars(token.data() + 3, token.data() + 5, value, 16);
    if (error != std::errc() || end != token.data() + 5) return std::nullopt;
    return static_cast<char>(value);
  }
};

class Fuse : public Decoder {
 public:
  Strings apply(Strings tokens) const override { return {join(tokens)}; }
};

// Takes up to `start` characters off the front of every token and `stop` off its end.
class Strip : public Decoder {
 public:
  explicit Strip(const Component& component)
      : character_(unicode::to_utf8(component.character("content"))),
        start_(component.count("start")),
        stop_(component.count("stop")) {}
  Strings apply(Strings tokens) const override {
    for (std::string& token : tokens) {
      for (size_t i = 0; i < start_ && token.starts_with(character_); ++i) token.erase(0, character_.size());
      for (size_t i = 0; i < stop_ && token.ends_with(character_); ++i) token.resize(token.size() - character_.size());
    }
    return tokens;
  }

 private:
  std::string character_;
  size_t start_;
  size_t stop_;
};

class Replace : public Decoder {
 public:
  explicit Replace(const Component& component)
      : pattern_(component.pattern("pattern")), content_(component.text("content")) {}
  Strings apply(Strings tokens) const override {
    for (std::string& token : tokens) {
      std::string replaced;
      for (const Span& span : pattern_.spans(token)) {
        replaced += span.match ? content_ : token.substr(span.begin, span.end - span.begin);
      }
      token = std::move(replaced);
    }
    return tokens;
  }

 private:
  Pattern pattern_;
  std::string content_;
};

// The mark becomes a space; in the first token it goes, if the pre-tokenizer put it there.
class Metaspace : public Decoder {
 public:
  explicit Metaspace(const Component& component)
      : mark_(unicode::to_utf8(component.character("replacement"))),
        prepended_(component.flag("add_prefix_space", true) &&
                   !(component.json().contains("prepend_scheme") && component.text("prepend_scheme") == "never")) {}
  Strings apply(Strings tokens) const override {
    for (size_t i = 0; i < tokens.size(); ++i) replace_all(tokens[i], mark_, i == 0 && prepended_ ? "" : " ");
    return tokens;
  }

 private:
  std::string mark_;
  bool prepended_;
};

// The end-of-word suffix becomes a space; the last token just loses it.
class BpeSuffix : public Decoder {
 public:
  explicit BpeSuffix(const Component& component) : suffix_(component.text("suffix")) {
    if (suffix_.empty()) component.fail("\"suffix\" is empty");
  }
  Strings apply(Strings tokens) const override {
    for (size_t i = 0; i < tokens.size(); ++i) replace_all(tokens[i], suffix_, i + 1 < tokens.size() ? " " : "");
    return tokens;
  }

 private:
  std::string suffix_;
};

// A token without the prefix begins a word. With `cleanup`, the spaces that splitting put around punctuation go.
class WordPiece : public Decoder {
 public:
  explicit WordPiece(const Component& component)
      : prefix_(component.text("prefix")), cleanup_(component.flag("cleanup")) {}
  Strings apply(Strings tokens) const override {
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (i > 0 && !prefix_.empty() && tokens[i].starts_with(prefix_)) {
        tokens[i].erase(0, prefix_.size());
      } else if (i > 0) {
        tokens[i].insert(tokens[i].begin(), ' ');
      }
      if (cleanup_) clean(tokens[i]);
    }
    return tokens;
  }

 private:
  static void clean(std::string& text) {
    constexpr std::pair<const char*, const char*> kRules[] = {
        {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},   {" n't", "n't"},
        {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    for (const auto& [from, to] : kRules) replace_all(text, from, to);
  }

  std::string prefix_;
  bool cleanup_;
};

}  // namespace

std::unique_ptr<const Decoder> make_decoder(const Component& component) {
  const std::string& type = component.type();
  if (type == "Sequence") return std::make_unique<Sequence>(component);
  if (type == "ByteLevel") return std::make_unique<ByteLevel>();
  if (type == "ByteFallback") return std::make_unique<ByteFallback>();
  if (type == "Fuse") return std::make_unique<Fuse>();
  if (type == "Strip") return std::make_unique<Strip>(component);
  if (type == "Replace") return std::make_unique<Replace>(component);
  if (type == "Metaspace") return std::make_unique<Metaspace>(component);
  if (type == "BPEDecoder") return std::make_unique<BpeSuffix>(component);
  if (type == "WordPiece") return std::make_unique<WordPiece>(component);
  component.unsupported("Sequence, ByteLevel, ByteFallback, Fuse, Strip, Replace, Metaspace, BPEDecoder and WordPiece");
}

}  // namespace roundhouse
