// SPDX-License-Identifier: Apache-2.0
#include "host/jinja/python_text.h"

#include <utf8proc.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>

#include "host/base/error.h"

namespace roundhouse::jinja {
namespace {

// The character that starts at text[at]; moves `at` past it.
char32_t next(std::string_view text, size_t& at) {
  const auto lead = static_cast<unsigned char>(text[at]);
  if (lead < 0x80) return ++at, lead;
  utf8proc_int32_t c = 0;
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + at;
  const utf8proc_ssize_t used = utf8proc_iterate(bytes, static_cast<utf8proc_ssize_t>(text.size() - at), &c);
  if (used <= 0) return ++at, U'\ufffd';
  at += static_cast<size_t>(used);
  return static_cast<char32_t>(c);
}

bool is_continuation(char byte) { return (static_cast<unsigned char>(byte) & 0xc0) == 0x80; }

// The character that ends before text[at]; moves `at` to where it begins.
char32_t previous(std::string_view text, size_t& at) {
  do --at;
  while (at > 0 && is_continuation(text[at]));
  size_t end = at;
  return next(text, end);
}

utf8proc_category_t category(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }

bool is_cased(char32_t c) {
  const utf8proc_category_t kind = category(c);
  return kind == UTF8PROC_CATEGORY_LU || kind == UTF8PROC_CATEGORY_LL || kind == UTF8PROC_CATEGORY_LT;
}

bool is_letter(char32_t c) {
  const utf8proc_category_t kind = category(c);
  return is_cased(c) || kind == UTF8PROC_CATEGORY_LM || kind == UTF8PROC_CATEGORY_LO;
}

bool is_number(char32_t c) {
  const utf8proc_category_t kind = category(c);
  return kind == UTF8PROC_CATEGORY_ND || kind == UTF8PROC_CATEGORY_NL || kind == UTF8PROC_CATEGORY_NO;
}

void append_upper(std::string& text, char32_t c) {
  if (c == U'ß') {
    text += "SS";
  } else {
    append_utf8(text, static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c))));
  }
}

void append_lower(std::string& text, char32_t c) {
  append_utf8(text, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
  if (c == 0x130) append_utf8(text, 0x307);  // the dotted capital I has no small letter of one character
}

void append_title(std::string& text, char32_t c) {
  if (c == U'ß') {
    text += "Ss";
  } else {
    append_utf8(text, static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(c))));
  }
}

template <typename Append>
std::string each(std::string_view text, Append append) {
  std::string result;
  result.reserve(text.size());
  for (size_t at = 0; at < text.size();) append(result, next(text, at));
  return result;
}

template <typename Is>
bool all(std::string_view text, Is is) {
  for (size_t at = 0; at < text.size();)
    if (!is(next(text, at))) return false;
  return !text.empty();
}

bool only_case(std::string_view text, utf8proc_category_t wanted) {
  bool any = false;
  for (size_t at = 0; at < text.size();) {
    const char32_t c = next(text, at);
    if (!is_cased(c)) continue;
    if (category(c) != wanted) return false;
    any = true;
  }
  return any;
}

bool is_line_end(char32_t c) {
  return (c >= 0x0a && c <= 0x0d) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

bool is_printable(char32_t c) {
  switch (category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return false;
    case UTF8PROC_CATEGORY_ZS:
      return c == U' ';
    default:
      return true;
  }
}

void append_hex(std::string& text, char32_t c) {
  const char* const digits = "0123456789abcdef";
  const int width = c <= 0xff ? 2 : c <= 0xffff ? 4 : 8;
  text += width == 2 ? "\\x" : width == 4 ? "\\u" : "\\U";
  for (int shift = 4 * (width - 1); shift >= 0; shift -= 4) text += digits[(c >> shift) & 15];
}

}  // namespace

size_t text_length(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char b) { return !is_continuation(b); }));
}

std::u32string decode_utf8(std::string_view text) {
  std::u32string characters;
  characters.reserve(text.size());
  for (size_t at = 0; at < text.size();) characters += next(text, at);
  return characters;
}

std::string encode_utf8(std::u32string_view characters) {
  std::string text;
  for (const char32_t c : characters) append_utf8(text, c);
  return text;
}

void append_utf8(std::string& text, char32_t c) {
  if (c < 0x80) {
    text += static_cast<char>(c);
    return;
  }
  utf8proc_uint8_t bytes[4];
  const auto n = utf8proc_encode_char(static_cast<utf8proc_int32_t>(c), bytes);
  text.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(n));
}

bool is_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

std::string to_upper(std::string_view text) { return each(text, append_upper); }
std::string to_lower(std::string_view text) { return each(text, append_lower); }

std::string to_title(std::string_view text) {
  bool after_cased = false;
  return each(text, [&](std::string& result, char32_t c) {
    after_cased ? append_lower(result, c) : append_title(result, c);
    after_cased = is_cased(c);
  });
}

std::string capitalize(std::string_view text) {
  bool first = true;
  return each(text, [&](std::string& result, char32_t c) {
    first ? append_title(result, c) : append_lower(result, c);
    first = false;
  });
}

bool is_upper(std::string_view text) { return only_case(text, UTF8PROC_CATEGORY_LU); }
bool is_lower(std::string_view text) { return only_case(text, UTF8PROC_CATEGORY_LL); }

bool is_alphabetic(std::string_view text) { return all(text, is_letter); }
bool is_numeric(std::string_view text) { return all(text, is_number); }
bool is_alphanumeric(std::string_view text) {
  return all(text, [](char32_t c) { return is_letter(c) || is_number(c); });
}

bool is_digit(std::string_view text) {
  return all(text, [](char32_t c) { return category(c) == UTF8PROC_CATEGORY_ND; });
}

std::string_view strip(std::string_view text, const std::optional<std::string_view>& chars, bool left, bool right) {
  const std::u32string set = chars ? decode_utf8(*chars) : std::u32string();
  const auto drops = [&](char32_t c) { return chars ? set.find(c) != set.npos : is_space(c); };
  size_t begin = 0, end = text.size();
  while (left && begin < end) {
    size_t at = begin;
    if (!drops(next(text, at))) break;
    begin = at;
  }
  while (right && end > begin) {
    size_t at = end;
    if (!drops(previous(text, at))) break;
    end = at;
  }
  return text.substr(begin, end - begin);
}

std::vector<std::string> split_space(std::string_view text, int64_t limit, bool from_right) {
  std::vector<std::string> parts;
  text = strip(text, std::nullopt, !from_right, from_right);
  while (!text.empty()) {
    if (limit >= 0 && static_cast<int64_t>(parts.size()) == limit) {
      parts.emplace_back(text);
      break;
    }
    if (from_right) {
      size_t begin = text.size();
      for (size_t at = begin; at > 0 && !is_space(previous(text, at));) begin = at;
      parts.emplace_back(text.substr(begin));
      text = strip(text.substr(0, begin), std::nullopt, false, true);
    } else {
      size_t end = 0;
      for (size_t at = 0; at < text.size() && !is_space(next(text, at));) end = at;
      parts.emplace_back(text.substr(0, end));
      text = strip(text.substr(end), std::nullopt, true, false);
    }
  }
  if (from_right) std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string> split_at(std::string_view text, std::string_view separator, int64_t limit, bool from_right) {
  std::vector<std::string> parts;
  while (limit < 0 || static_cast<int64_t>(parts.size()) < limit) {
    const size_t at = from_right ? text.rfind(separator) : text.find(separator);
    if (at == text.npos) break;
    parts.emplace_back(from_right ? text.substr(at + separator.size()) : text.substr(0, at));
    text = from_right ? text.substr(0, at) : text.substr(at + separator.size());
  }
  parts.emplace_back(text);
  if (from_right) std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string> lines;
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = at;
    const char32_t c = next(text, at);
    if (!is_line_end(c)) continue;
    if (c == '\r' && at < text.size() && text[at] == '\n') ++at;
    lines.emplace_back(text.substr(begin, (keep_ends ? at : end) - begin));
    begin = at;
  }
  if (begin < text.size()) lines.emplace_back(text.substr(begin));
  return lines;
}

std::string replace_text(std::string_view text, std::string_view from, std::string_view to, int64_t limit) {
  std::string result;
  size_t begin = 0;
  if (from.empty()) {  // before every character, and at the end
    for (; limit != 0; --limit) {
      result += to;
      if (begin == text.size()) return result;
      const size_t start = begin;
      next(text, begin);
      result += text.substr(start, begin - start);
    }
    return result.append(text.substr(begin));
  }
  for (size_t at; limit != 0 && (at = text.find(from, begin)) != text.npos; --limit) {
    result.append(text.substr(begin, at - begin)).append(to);
    begin = at + from.size();
  }
  return result.append(text.substr(begin));
}

std::string repr_text(std::string_view text) {
  const char quote = text.find('\'') != text.npos && text.find('"') == text.npos ? '"' : '\'';
  std::string result(1, quote);
  for (size_t at = 0; at < text.size();) {
    const char32_t c = next(text, at);
    if (c == static_cast<char32_t>(quote) || c == '\\') {
      result += '\\';
      result += static_cast<char>(c);
    } else if (c == '\n') {
      result += "\\n";
    } else if (c == '\r') {
      result += "\\r";
    } else if (c == '\t') {
      result += "\\t";
    } else if (is_printable(c)) {
      append_utf8(result, c);
    } else {
      append_hex(result, c);
    }
  }
  return result + quote;
}

// The shortest digits that give the number back; with an exponent below 1e-4 and from 1e16 on.
std::string repr_float(double number) {
  if (std::isnan(number)) return "nan";
  if (std::isinf(number)) return number < 0 ? "-inf" : "inf";
  char buffer[400];
  const double size = std::fabs(number);
  const bool scientific = size != 0 && (size < 1e-4 || size >= 1e16);
  const auto result = std::to_chars(buffer, buffer + sizeof buffer, number,
                                    scientific ? std::chars_format::scientific : std::chars_format::fixed);
  std::string text(buffer, result.ptr);
  if (!scientific && text.find('.') == text.npos) text += ".0";
  return text;
}

}  // namespace roundhouse::jinja
