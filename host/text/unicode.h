// SPDX-License-Identifier: Apache-2.0
// UTF-8, and the Unicode properties and normal forms that tokenizers ask for.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace roundhouse::unicode {

// The text as Python decodes bytes with errors="replace": each maximal subpart of an ill-formed sequence (Unicode 15,
// section 3.9) becomes one U+FFFD. Every other function here needs valid UTF-8.
std::string replace_invalid(std::string_view bytes);

// The character that starts at text[at]; moves `at` past it. REQUIRES: at < text.size().
char32_t next(std::string_view text, size_t& at);
// Where the last character of the text begins. REQUIRES: the text is not empty.
size_t last_begin(std::string_view text);
// Where the grapheme cluster (Unicode's annex 29, extended) that starts at text[at] ends. REQUIRES: at < text.size().
size_t grapheme_end(std::string_view text, size_t at);
void append(std::string& text, char32_t c);
std::string to_utf8(char32_t c);

bool is_whitespace(char32_t c);   // property White_Space
bool is_numeric(char32_t c);      // general category N
bool is_punctuation(char32_t c);  // general category P, and every ASCII symbol that is neither letter nor digit
bool is_mark(char32_t c);         // general category M
bool is_accent(char32_t c);       // general category Mn: a mark that takes no room of its own
bool is_control(char32_t c);      // general categories Cc, Cf and Co
// Lower case without context: U+0130 alone becomes two characters.
void append_lower(std::string& text, char32_t c);

// Bytes of white space at either end.
size_t leading_whitespace(std::string_view text);
size_t trailing_whitespace(std::string_view text);

enum class Form { kNFC, kNFD, kNFKC, kNFKD };
std::string normalize(std::string_view text, Form form);

}  // namespace roundhouse::unicode
