// SPDX-License-Identifier: Apache-2.0
// How byte-level tokenizers divide texts into words. llama.cpp knows the ways by names (src/llama-vocab.cpp).
#pragma once

#include <string>

#include "plugins/formats/lib/checkpoint.h"

namespace roundhouse::formats {

struct PreTokenizer {
  const char* name;
  const char* words;           // a regular expression; "": GPT-2's, which ByteLevel has within itself
  bool digits = false;         // each is a word of its own, before all else
  bool nfc = false;            // texts are composed first
  bool adds_bos = false;       // where a file does not say
  bool ignore_merges = false;  // a word that is a token is one
};

// nullptr: it is not known here.
const PreTokenizer* pre_tokenizer(const std::string& name);
// Whether llama.cpp knows the name, of which this project writes and reads a few.
bool llama_cpp_knows(const std::string& name);
// All of these, as a list in JSON.
std::string pre_tokenizer_names();
// The first that divides texts so, or nullptr: "words" as GPT-2 does, "digits, words", or a regular expression and
// ", bytes".
const PreTokenizer* pre_tokenizer_of(const std::string& what, bool ignore_merges);
// As in tokenizer.json.
Json pre_tokenizer_json(const PreTokenizer& pre);

}  // namespace roundhouse::formats
