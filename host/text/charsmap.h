// SPDX-License-Identifier: Apache-2.0
// SentencePiece's compiled normalization (T5's and XLM's nmt_nfkc): a table of what characters become.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace roundhouse {

// Thread-safe.
class Charsmap {
 public:
  // `bytes`: the size of a double array of Darts-clone, 4 bytes; the array; the replacements, each ended by a zero.
  // Throws Error when they are damaged.
  explicit Charsmap(std::string_view bytes);

  std::string normalize(std::string_view text) const;

 private:
  // What stands for the shortest beginning of `text` that the table has.
  std::optional<std::string_view> replacement(std::string_view text) const;

  std::vector<uint32_t> units_;
  std::string replacements_;
};

}  // namespace roundhouse
