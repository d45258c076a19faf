// SPDX-License-Identifier: Apache-2.0
#include "host/text/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "host/base/error.h"

namespace roundhouse::unicode {
namespace {

struct Sequence {
  size_t length;  // bytes of the character, or of the maximal subpart when ill-formed
  bool valid;
};

// Table 3-7 of the Unicode standard, "Well-Formed UTF-8 Byte Sequences".
Sequence read_sequence(std::string_view bytes, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(bytes[at + i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return {1, true};
  if (lead < 0xc2 || lead > 0xf4) return {1, false};
  const size_t length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  uint8_t low = 0x80, high = 0xbf;  // bounds of the second byte
  if (lead == 0xe0) low = 0xa0;     // no overlong forms
  if (lead == 0xed) high = 0x9f;    // no surrogates
  if (lead == 0xf0) low = 0x90;     // no overlong forms
  if (lead == 0xf4) high = 0x8f;    // nothing past U+10FFFF
  for (size_t i = 1; i < length; ++i) {
    if (at + i == bytes.size() || byte(i) < low || byte(i) > high) return {i, false};
    low = 0x80, high = 0xbf;
  }
  return {length, true};
}

size_t char_length(char lead) {
  const auto byte = static_cast<uint8_t>(lead);
  return byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}

utf8proc_category_t category(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }

}  // namespace

std::string replace_invalid(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  for (size_t at = 0; at < bytes.size();) {
    const Sequence sequence = read_sequence(bytes, at);
    text += sequence.valid ? bytes.substr(at, sequence.length) : std::string_view("\xef\xbf\xbd");
    at += sequence.length;
  }
  return text;
}

char32_t next(std::string_view text, size_t& at) {
  assert(at < text.size());
  const size_t length = char_length(text[at]);
  assert(at + length <= text.size());
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[at + i]); };
  char32_t c = length == 1 ? byte(0) : byte(0) & (0x7fu >> length);
  for (size_t i = 1; i < length; ++i) c = (c << 6) | (byte(i) & 0x3fu);
  at += length;
  return c;
}

size_t last_begin(std::string_view text) {
  assert(!text.empty());
  size_t begin = text.size() - 1;
  while ((static_cast<uint8_t>(text[begin]) & 0xc0) == 0x80) --begin;
  return begin;
}

size_t grapheme_end(std::string_view text, size_t at) {
  utf8proc_int32_t state = 0;
  for (char32_t before = next(text, at); at < text.size();) {
    size_t end = at;
    const char32_t c = next(text, end);
    if (utf8proc_grapheme_break_stateful(static_cast<utf8proc_int32_t>(before), static_cast<utf8proc_int32_t>(c),
                                         &state)) {
      break;
    }
    before = c;
    at = end;
  }
  return at;
}

void append(std::string& text, char32_t c) {
  utf8proc_uint8_t bytes[4];
  const auto length = utf8proc_encode_char(static_cast<utf8proc_int32_t>(c), bytes);
  text.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(length));
}

std::string to_utf8(char32_t c) {
  std::string text;
  append(text, c);
  return text;
}

bool is_whitespace(char32_t c) {
  return (c >= 0x9 && c <= 0xd) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) ||
         c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool is_numeric(char32_t c) {
  const auto kind = category(c);
  return kind >= UTF8PROC_CATEGORY_ND && kind <= UTF8PROC_CATEGORY_NO;
}

bool is_punctuation(char32_t c) {
  if (c < 0x80)
    return std::string_view("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~").find(static_cast<char>(c)) != std::string_view::npos;
  const auto kind = category(c);
  return kind >= UTF8PROC_CATEGORY_PC && kind <= UTF8PROC_CATEGORY_PO;
}

bool is_mark(char32_t c) {
  const auto kind = category(c);
  return kind >= UTF8PROC_CATEGORY_MN && kind <= UTF8PROC_CATEGORY_ME;
}

bool is_accent(char32_t c) { return category(c) == UTF8PROC_CATEGORY_MN; }

bool is_control(char32_t c) {
  const auto kind = category(c);
  return kind == UTF8PROC_CATEGORY_CC || kind == UTF8PROC_CATEGORY_CF || kind == UTF8PROC_CATEGORY_CO;
}

void append_lower(std::string& text, char32_t c) {
  if (c == 0x130) {  // the only unconditional lower-case mapping to more than one character (SpecialCasing.txt)
    text += "i\xcc\x87";
  } else {
    append(text, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
  }
}

size_t leading_whitespace(std::string_view text) {
  size_t end = 0;
  for (size_t at = 0; at < text.size() && is_whitespace(next(text, at));) end = at;
  return end;
}

size_t trailing_whitespace(std::string_view text) {
  size_t begin = text.size();
  while (begin > 0) {
    const size_t start = last_begin(text.substr(0, begin));
    size_t at = start;
    if (!is_whitespace(next(text, at))) break;
    begin = start;
  }
  return text.size() - begin;
}

std::string normalize(std::string_view text, Form form) {
  const bool ascii = std::all_of(text.begin(), text.end(), [](char c) { return static_cast<uint8_t>(c) < 0x80; });
  if (ascii) return std::string(text);
  int options = UTF8PROC_STABLE;
  options |= form == Form::kNFC || form == Form::kNFKC ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
  if (form == Form::kNFKC || form == Form::kNFKD) options |= UTF8PROC_COMPAT;
  utf8proc_uint8_t* result = nullptr;
  const auto length =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &result, static_cast<utf8proc_option_t>(options));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(result, &std::free);
  if (length < 0) throw Error(cat("Unicode normalization failed: ", utf8proc_errmsg(length)));
  return std::string(reinterpret_cast<const char*>(result), static_cast<size_t>(length));
}

}  // namespace roundhouse::unicode
