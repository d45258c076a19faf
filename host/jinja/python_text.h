// SPDX-License-Identifier: Apache-2.0
// What Python's str does, on UTF-8. Every text must be valid UTF-8; a position or a length counts characters.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace roundhouse::jinja {

size_t text_length(std::string_view text);
std::u32string decode_utf8(std::string_view text);
std::string encode_utf8(std::u32string_view characters);
void append_utf8(std::string& text, char32_t c);

bool is_space(char32_t c);
std::string to_upper(std::string_view text);
std::string to_lower(std::string_view text);
std::string to_title(std::string_view text);    // str.title()
std::string capitalize(std::string_view text);  // str.capitalize()
// Whether there are characters with case and all of them are upper (lower); str.isupper().
bool is_upper(std::string_view text);
bool is_lower(std::string_view text);
// Whether the text is not empty and each of its characters is one.
bool is_alphabetic(std::string_view text);
bool is_alphanumeric(std::string_view text);
bool is_numeric(std::string_view text);
bool is_digit(std::string_view text);

// Without white space, or without any of `chars`, at the left end, the right end, or both.
std::string_view strip(std::string_view text, const std::optional<std::string_view>& chars, bool left, bool right);
// At white space, runs of which are one separator; at most `limit` cuts, from the left or the right. -1: no limit.
std::vector<std::string> split_space(std::string_view text, int64_t limit, bool from_right);
// REQUIRES: the separator is not empty.
std::vector<std::string> split_at(std::string_view text, std::string_view separator, int64_t limit, bool from_right);
std::vector<std::string> split_lines(std::string_view text, bool keep_ends);
// The first `limit` occurrences; -1: all of them.
std::string replace_text(std::string_view text, std::string_view from, std::string_view to, int64_t limit);

std::string repr_text(std::string_view text);  // 'it', "it's"
std::string repr_float(double number);         // 0.1, 1.0, 1e+16, nan

}  // namespace roundhouse::jinja
