// SPDX-License-Identifier: Apache-2.0
// The tokenizer's files of a model's folder, in whatever form, as one tokenizer.json.
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace roundhouse {

struct TokenizerFiles {
  nlohmann::json json;  // as tokenizer.json; "added_tokens" has those of the other files behind its own
  std::string file;     // that it comes from, for messages
  std::map<std::string, std::string> roles;  // the texts of "bos_token", "eos_token", "unk_token", "sep_token", ..
  // Put around every text beside what the post-processor puts there.
  std::optional<std::string> before, after;
};

// The first that is there of tokenizer.json, tekken.json, tokenizer.model or tiktoken.model (of SentencePiece or
// tiktoken), *.tiktoken, vocab.json with merges.txt, and vocab.txt; and tokenizer_config.json, special_tokens_map.json
// and added_tokens.json, each meaning what it means to transformers 5. Throws Error naming the file when one is damaged
// or of a form that is not read, and with all the names when there is none.
TokenizerFiles read_tokenizer_files(const std::filesystem::path& folder);

}  // namespace roundhouse
