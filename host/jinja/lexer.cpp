// SPDX-License-Identifier: Apache-2.0
#include "host/jinja/lexer.h"

#include <algorithm>
#include <cstdint>
#include <optional>

#include "host/base/error.h"
#include "host/jinja/python_text.h"

namespace roundhouse::jinja {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool starts_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || static_cast<unsigned char>(c) >= 0x80;
}

// Line ends become \n, and the last one of the template is no part of it.
std::string normalized(std::string_view source) {
  std::string text;
  text.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      text += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      text += source[i];
    }
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(normalized(source)) {}

  std::vector<Token> tokens() {
    while (at_ < source_.size()) text_and_tag();
    add(Token::Kind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  bool sees(std::string_view text, size_t at) const { return std::string_view(source_).substr(at).starts_with(text); }
  bool sees(std::string_view text) const { return sees(text, at_); }

  void add(Token::Kind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }

  void advance(size_t to) {
    line_ += static_cast<int>(std::count(source_.begin() + at_, source_.begin() + to, '\n'));
    at_ = to;
  }

  // The text in front of a tag, which begins at `tag` and has `sign` behind its opening.
  void add_text(size_t tag, char sign, bool is_variable) {
    std::string text = source_.substr(at_, tag - at_);
    if (sign == '-') {
      text = std::string(strip(text, std::nullopt, false, true));
    } else if (sign != '+' && !is_variable) {  // lstrip_blocks
      const size_t newline = text.rfind('\n');
      const size_t begin = newline == text.npos ? 0 : newline + 1;
      if ((begin > 0 || at_line_begin_) &&
          strip(std::string_view(text).substr(begin), std::nullopt, true, true).empty())
        text.resize(begin);
    }
    if (!text.empty()) add(Token::Kind::kText, std::move(text));
    advance(tag);
  }

  char sign_at(size_t at) const {
    return at < source_.size() && (source_[at] == '-' || source_[at] == '+') ? source_[at] : '\0';
  }

  void skip_blank() {
    const std::string_view rest = std::string_view(source_).substr(at_);
    advance(source_.size() - strip(rest, std::nullopt, true, false).size());
  }

  // Behind the end of a tag. `sign` is the one in front of it.
  void after_tag(char sign, bool trims) {
    if (sign == '-') {
      skip_blank();
    } else if (sign != '+' && trims && sees("\n")) {  // trim_blocks
      advance(at_ + 1);
    }
    at_line_begin_ = at_ > 0 && source_[at_ - 1] == '\n';
  }

  void text_and_tag() {
    size_t tag = at_;
    while ((tag = source_.find('{', tag)) != source_.npos && !sees("{{", tag) && !sees("{%", tag) && !sees("{#", tag))
      ++tag;
    if (tag == source_.npos) {
      add(Token::Kind::kText, source_.substr(at_));
      advance(source_.size());
      return;
    }
    const char kind = source_[tag + 1];
    const char sign = sign_at(tag + 2);
    add_text(tag, sign, kind == '{');
    const size_t inside = tag + (sign ? 3 : 2);
    if (kind == '#') {
      comment(inside);
    } else if (kind == '%' && !raw(inside)) {
      add(Token::Kind::kBlockBegin, "");
      advance(inside);
      expression("%}", Token::Kind::kBlockEnd);
    } else if (kind == '{') {
      add(Token::Kind::kVariableBegin, "");
      advance(inside);
      expression("}}", Token::Kind::kVariableEnd);
    }
  }

  void comment(size_t inside) {
    size_t end = source_.find("#}", inside);
    if (end == source_.npos) fail_at(line_, "a comment has no end (#})");
    const char sign = end > inside ? sign_at(end - 1) : '\0';
    advance(end + 2);
    after_tag(sign, true);
  }

  // {% raw %} to {% endraw %}, when it stands here.
  bool raw(size_t inside) {
    const auto tag_end = [&](size_t at, std::string_view name) -> std::optional<size_t> {
      while (at < source_.size() && is_blank(source_[at])) ++at;
      if (!sees(name, at)) return std::nullopt;
      at += name.size();
      while (at < source_.size() && is_blank(source_[at])) ++at;
      if (sign_at(at)) ++at;
      return sees("%}", at) ? std::optional(at + 2) : std::nullopt;
    };
    const auto begin = tag_end(inside, "raw");
    if (!begin) return false;
    advance(*begin);
    after_tag(source_[*begin - 3], false);
    for (size_t tag = at_; (tag = source_.find("{%", tag)) != source_.npos; ++tag) {
      const char sign = sign_at(tag + 2);
      const auto end = tag_end(tag + (sign ? 3 : 2), "endraw");
      if (!end) continue;
      add_text(tag, sign, false);
      advance(*end);
      after_tag(source_[*end - 3], true);
      return true;
    }
    fail_at(line_, "{% raw %} has no {% endraw %}");
  }

  void expression(std::string_view end, Token::Kind end_kind) {
    std::string open;  // brackets that wait for their ends
    const int begin = line_;
    for (;;) {
      skip_blank();
      if (at_ >= source_.size()) fail_at(begin, cat("a tag has no end (", end, ")"));
      const char sign = sign_at(at_);
      if (open.empty() && (sees(end) || (sign && !(sign == '+' && end == "}}") && sees(end, at_ + 1)))) {
        const size_t to = at_ + (sees(end) ? 0 : 1) + 2;
        add(end_kind, "");
        const char before = sees(end) ? '\0' : sign;
        advance(to);
        after_tag(before, end == "%}");
        return;
      }
      token(open);
    }
  }

  void token(std::string& open) {
    const char c = source_[at_];
    if (is_digit(c)) return number();
    if (starts_name(c)) {
      size_t end = at_;
      while (end < source_.size() && (starts_name(source_[end]) || is_digit(source_[end]))) ++end;
      add(Token::Kind::kName, source_.substr(at_, end - at_));
      return advance(end);
    }
    if (c == '\'' || c == '"') return string();
    for (const std::string_view two : {"//", "**", "==", "!=", ">=", "<="}) {
      if (!sees(two)) continue;
      add(Token::Kind::kOperator, std::string(two));
      return advance(at_ + 2);
    }
    constexpr std::string_view kOpen = "([{", kClose = ")]}";
    if (kOpen.find(c) != kOpen.npos) open += kClose[kOpen.find(c)];
    if (kClose.find(c) != kClose.npos) {
      if (open.empty() || open.back() != c) fail_at(line_, cat("unexpected '", c, "'"));
      open.pop_back();
    }
    if (std::string_view("+-/*%~[](){}><=.:|,;").find(c) == std::string_view::npos)
      fail_at(line_, cat("unexpected '", c, "'"));
    add(Token::Kind::kOperator, std::string(1, c));
    advance(at_ + 1);
  }

  // The end of digits with single underscores between them.
  size_t digits_end(size_t at) const {
    while (at < source_.size() &&
           (is_digit(source_[at]) || (source_[at] == '_' && at + 1 < source_.size() && is_digit(source_[at + 1]))))
      ++at;
    return at;
  }

  void number() {
    size_t end = digits_end(at_);
    bool is_float = false;
    if (end + 1 < source_.size() && source_[end] == '.' && is_digit(source_[end + 1]) &&
        !(at_ > 0 && source_[at_ - 1] == '.')) {
      is_float = true;
      end = digits_end(end + 1);
    }
    if (end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
      const size_t digits = end + 1 + (sign_at(end + 1) ? 1 : 0);
      if (digits < source_.size() && is_digit(source_[digits])) {
        is_float = true;
        end = digits_end(digits);
      }
    }
    std::string text = source_.substr(at_, end - at_);
    std::erase(text, '_');
    add(is_float ? Token::Kind::kFloat : Token::Kind::kInteger, std::move(text));
    advance(end);
  }

  // Python's escapes, but for \N{name}.
  void string() {
    const char quote = source_[at_];
    std::string value;
    size_t at = at_ + 1;
    for (;; ++at) {
      if (at >= source_.size()) fail_at(line_, "a string has no end");
      if (source_[at] == quote) break;
      if (source_[at] != '\\' || at + 1 >= source_.size()) {
        value += source_[at];
        continue;
      }
      constexpr std::string_view kNames = "\\'\"abfnrtv", kValues = "\\'\"\a\b\f\n\r\t\v";
      const char c = source_[++at];
      if (const size_t known = kNames.find(c); known != kNames.npos) {
        value += kValues[known];
      } else if (c == 'x' || c == 'u' || c == 'U') {
        const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        append_utf8(value, code(at + 1, digits, 16));
        at += digits;
      } else if (c >= '0' && c <= '7') {
        size_t digits = 1;
        while (digits < 3 && at + digits < source_.size() && source_[at + digits] >= '0' && source_[at + digits] <= '7')
          ++digits;
        append_utf8(value, code(at, digits, 8));
        at += digits - 1;
      } else if (c != '\n') {
        value += '\\';
        value += c;
      }
    }
    add(Token::Kind::kString, std::move(value));
    advance(at + 1);
  }

  char32_t code(size_t at, size_t digits, int base) const {
    char32_t value = 0;
    for (size_t i = at; i < at + digits; ++i) {
      const char c = i < source_.size() ? source_[i] : '\0';
      const int digit = is_digit(c) ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : 99;
      if (digit >= base) fail_at(line_, "a string has a damaged escape");
      value = value * static_cast<char32_t>(base) + static_cast<char32_t>(digit);
    }
    if (value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
      fail_at(line_, "a string has an escape that is no character");
    return value;
  }

  std::string source_;
  size_t at_ = 0;
  int line_ = 1;
  bool at_line_begin_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).tokens(); }

void fail_at(int line, const std::string& message) { throw Error(cat("line ", line, ": ", message)); }

}  // namespace roundhouse::jinja
