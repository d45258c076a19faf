// SPDX-License-Identifier: Apache-2.0
// The tokenizer of a model's folder, as llama.cpp wants it inside the file.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "plugins/formats/gguf/metadata.h"

namespace roundhouse::formats {

// SentencePiece's ModelProto.SentencePiece.Type, and llama.cpp's llama_token_type.
enum class TokenType : int32_t { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };

// Returns how many characters UTF-8 has.
inline size_t code_points(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

// Adds tokenizer.ggml.* as the host tells of the tokenizer, and the chat template, with `vocab` tokens: missing ones are
// filled up. `pre` names llama.cpp's pre-tokenizer; empty: told from the tokenizer. Throws rh::Error for a tokenizer that
// the host cannot read or llama.cpp does not have.
void add_tokenizer(Metadata& metadata, const rh_export& target, size_t vocab, const std::string& pre);

}  // namespace roundhouse::formats
