// The tokenizer of a model's folder, as llama.cpp wants it inside the file.
#pragma once

#include <string>

#include "plugins/formats/gguf/metadata.h"

namespace roundhouse::formats {

// Adds tokenizer.ggml.* and the chat template, with `vocab` tokens: missing ones are filled up. `pre` names llama.cpp's
// pre-tokenizer; empty: told from tokenizer.json. Throws rh::Error for a tokenizer that llama.cpp does not have.
void add_tokenizer(Metadata& metadata, const std::string& folder, size_t vocab, const std::string& pre);

}  // namespace roundhouse::formats
