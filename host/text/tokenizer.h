// SPDX-License-Identifier: Apache-2.0
// Text to token ids and back, after a model's tokenizer files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace roundhouse {

// A tokenizer (BPE, Unigram, WordPiece or WordLevel) with the ids that the `tokenizers` package gives, added tokens being
// those that transformers adds. Movable; const members may be called from any thread. "truncation" and "padding" of tokenizer.json are not applied: they are
// left-overs of whoever saved the file. Characters that are newer than the Unicode tables of the installed Oniguruma
// and utf8proc may be split differently.
class Tokenizer {
 public:
  // Reads the files that read_tokenizer_files() lists. Throws Error naming the file and the component when one is
  // missing, damaged or not supported.
  static Tokenizer load(const std::filesystem::path& model_dir);

  // What formats are told of a model's tokenizer (the key "tokenizer" of ext/model.h):
  //   "json"           as tokenizer.json, whatever its files; the added tokens are those of all files, each with the
  //                    "id" that texts get for it
  //   "before", "after"  the ids around an empty text
  //   "roles"          {"bos": id, "eos": .., "unk", "sep", "pad", "cls", "mask"}, as far as there are such tokens
  // Where there is no tokenizer that can be read, {"error": why}.
  static nlohmann::json facts(const std::filesystem::path& model_dir);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // Invalid UTF-8 is read as Python reads bytes with errors="replace". With `add_special_tokens`, the post-processor's
  // tokens are put around the text. At most `max_tokens` ids come back: the text's own are cut, the special ones stay.
  std::vector<int32_t> encode(std::string_view text, bool add_special_tokens = true,
                              size_t max_tokens = std::numeric_limits<size_t>::max()) const;

  // Ids that are in neither vocabulary are left out.
  std::string decode(std::span<const int32_t> ids, bool skip_special_tokens = true) const;

  std::optional<int32_t> pad_id() const;
  std::optional<int32_t> bos_id() const;
  std::optional<int32_t> eos_id() const;
  std::optional<int32_t> token_id(std::string_view token) const;
  // As it stands in the vocabulary; empty for an id that there is not.
  std::string token(int32_t id) const;
  // The model's vocabulary and the added tokens beyond it.
  size_t vocab_size() const;

 private:
  struct Parts;
  explicit Tokenizer(std::unique_ptr<const Parts> parts);

  std::unique_ptr<const Parts> parts_;
};

}  // namespace roundhouse
