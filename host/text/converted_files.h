// SPDX-License-Identifier: Apache-2.0
// Tokenizer files of other forms, turned into what tokenizer.json would say.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

namespace roundhouse {

struct ConvertedTokenizer {
  nlohmann::json json;                               // as tokenizer.json, without a post-processor
  nlohmann::json config = nlohmann::json::object();  // keys of tokenizer_config.json, where that has none
};

// `config` is tokenizer_config.json, or an empty object. All throw Error when a file is damaged.

// Byte-level BPE: as GPT-2's, or with Qwen2's words.
ConvertedTokenizer convert_merges(const std::filesystem::path& vocabulary, const std::filesystem::path& merges,
                                  const nlohmann::json& config, bool qwen2);
// Mistral's tekken.json.
ConvertedTokenizer convert_tekken(const std::filesystem::path& file);
// Lines of a token in base64 and its rank. The words are Llama 3's.
ConvertedTokenizer convert_tiktoken(const std::filesystem::path& file, const nlohmann::json& config);
bool is_tiktoken(const std::string& content);
// BERT's vocab.txt.
ConvertedTokenizer convert_word_pieces(const std::filesystem::path& file, const nlohmann::json& config);
// SentencePiece's model, a protobuf message: BPE or Unigram. `file` is for messages.
ConvertedTokenizer convert_sentence_piece(const std::string& content, const std::string& file,
                                          const nlohmann::json& config);
// Its pieces by id: [text, score, type], the last one a number of sentencepiece_model.proto.
nlohmann::json sentence_pieces(const std::string& content, const std::string& file);

// A key of "added_tokens_decoder" in the tokenizer_config.json of `folder`. Throws Error for what is no id.
int64_t added_token_id(const std::string& key, const std::filesystem::path& folder);
// An entry of "added_tokens".
nlohmann::json added_token(const std::string& content, bool special);

}  // namespace roundhouse
