// SPDX-License-Identifier: Apache-2.0
// The alphabet of byte-level BPE (GPT-2's encoder.py): every byte has a printable character of its own.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "host/text/unicode.h"

namespace roundhouse {

class ByteLevelAlphabet {
 public:
  static const ByteLevelAlphabet& instance() {
    static const ByteLevelAlphabet alphabet;
    return alphabet;
  }

  std::string encode(std::string_view bytes) const {
    std::string text;
    text.reserve(bytes.size() + bytes.size() / 2);
    for (const char byte : bytes) text += characters_[static_cast<uint8_t>(byte)];
    return text;
  }

  std::optional<char> byte_of(char32_t c) const {
    if (c >= bytes_.size() || bytes_[c] < 0) return std::nullopt;
    return static_cast<char>(bytes_[c]);
  }

 private:
  // Bytes that are printable in Latin-1 stand for themselves, the others for U+0100 onwards.
  ByteLevelAlphabet() {
    bytes_.fill(-1);
    char32_t spare = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
      const char32_t c = printable ? static_cast<char32_t>(byte) : spare++;
      characters_[byte] = unicode::to_utf8(c);
      bytes_[c] = static_cast<int16_t>(byte);
    }
  }

  std::array<std::string, 256> characters_;
  std::array<int16_t, 0x144> bytes_;  // by character; 68 bytes are not printable
};

}  // namespace roundhouse
