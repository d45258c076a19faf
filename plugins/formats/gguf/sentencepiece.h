// SPDX-License-Identifier: Apache-2.0
// The vocabulary of a SentencePiece model file.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace roundhouse::formats {

// SentencePiece's ModelProto.SentencePiece.Type, and llama.cpp's llama_token_type.
enum class TokenType : int32_t { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };

struct SentencePiece {
  std::string text;
  float score = 0;
  TokenType type = TokenType::kNormal;
};

// `bytes` of a tokenizer.model, a protobuf message; `path` is for messages. Throws rh::Error when it is damaged.
std::vector<SentencePiece> parse_sentence_pieces(const std::string& bytes, const std::string& path);

}  // namespace roundhouse::formats
