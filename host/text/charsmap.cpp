// SPDX-License-Identifier: Apache-2.0
#include "host/text/charsmap.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "host/base/error.h"
#include "host/text/unicode.h"

namespace roundhouse {
namespace {

static_assert(std::endian::native == std::endian::little, "the file's numbers are little-endian");

// A unit of the double array (darts.h of Darts-clone).
bool has_leaf(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t value(uint32_t unit) { return unit & 0x7fffffff; }
uint32_t label(uint32_t unit) { return unit & 0x800000ff; }
uint32_t offset(uint32_t unit) { return unit >> 10 << ((unit & 0x200) >> 6); }

}  // namespace

Charsmap::Charsmap(std::string_view bytes) {
  uint32_t size = 0;
  if (bytes.size() >= sizeof size) std::memcpy(&size, bytes.data(), sizeof size);
  if (size == 0 || size % sizeof(uint32_t) != 0 || size > bytes.size() - sizeof size) {
    throw Error("the table of characters is damaged");
  }
  units_.resize(size / sizeof(uint32_t));
  std::memcpy(units_.data(), bytes.data() + sizeof size, size);
  replacements_ = bytes.substr(sizeof size + size);
  if (unicode::replace_invalid(replacements_) != replacements_) throw Error("the table of characters is damaged");
}

std::optional<std::string_view> Charsmap::replacement(std::string_view text) const {
  size_t at = offset(units_.front());
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    if (byte == 0) break;
    at ^= byte;
    if (at >= units_.size() || label(units_[at]) != byte) return std::nullopt;
    const uint32_t unit = units_[at];
    at ^= offset(unit);
    if (!has_leaf(unit)) continue;
    if (at >= units_.size() || value(units_[at]) >= replacements_.size()) return std::nullopt;
    const size_t begin = value(units_[at]);
    return std::string_view(replacements_)
        .substr(begin, std::min(replacements_.find('\0', begin), replacements_.size()) - begin);
  }
  return std::nullopt;
}

// As the package does it: a short grapheme that begins with an entry of the table is replaced as a whole, others
// character by character.
std::string Charsmap::normalize(std::string_view text) const {
  constexpr size_t kShort = 6;  // bytes
  std::string result;
  result.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const size_t end = unicode::grapheme_end(text, at);
    const std::string_view grapheme = text.substr(at, end - at);
    if (const auto whole = grapheme.size() < kShort ? replacement(grapheme) : std::nullopt) {
      result += *whole;
    } else {
      for (size_t begin = at; begin < end;) {
        size_t next = begin;
        unicode::next(text, next);
        const std::string_view character = text.substr(begin, next - begin);
        result += replacement(character).value_or(character);
        begin = next;
      }
    }
    at = end;
  }
  return result;
}

}  // namespace roundhouse
