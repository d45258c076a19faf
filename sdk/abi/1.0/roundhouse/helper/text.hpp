// SPDX-License-Identifier: Apache-2.0
// Roundhouse SDK: C++ helper. Not part of the ABI.
#pragma once

#include <cstddef>

namespace rh {

// Copies text into `size` bytes, the last of them 0. Bytes that are no UTF-8 (of a damaged file that a message quotes)
// become '?', and so does a character that is cut off.
inline void copy_text(char* to, size_t size, const char* from) noexcept {
  size_t at = 0;
  while (*from && at + 1 < size) {
    const auto first = static_cast<unsigned char>(*from);
    const int rest = first < 0x80                    ? 0
                     : first >= 0xc2 && first < 0xe0 ? 1
                     : (first & 0xf0) == 0xe0        ? 2
                     : first >= 0xf0 && first < 0xf5 ? 3
                                                     : -1;
    bool valid = rest >= 0 && at + static_cast<size_t>(rest) + 1 < size;
    for (int i = 1; valid && i <= rest; ++i) valid = (static_cast<unsigned char>(from[i]) & 0xc0) == 0x80;
    if (valid && rest >= 2) {  // too long, a surrogate, or beyond Unicode
      const auto second = static_cast<unsigned char>(from[1]);
      valid = !(first == 0xe0 && second < 0xa0) && !(first == 0xed && second > 0x9f) &&
              !(first == 0xf0 && second < 0x90) && !(first == 0xf4 && second > 0x8f);
    }
    if (valid) {
      for (int i = 0; i <= rest; ++i) to[at++] = *from++;
    } else {
      to[at++] = '?';
      ++from;
    }
  }
  to[at] = 0;
}

}  // namespace rh
