// SPDX-License-Identifier: Apache-2.0
// Tokenizer files: the first byte says which one the others are; those that it needs beside it are whole.
#include "host/text/tokenizer.h"

#include <nlohmann/json.hpp>

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace roundhouse;
  static constexpr const char* kFiles[] = {"tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json",
                                           "merges.txt",     "tekken.json",           "tiktoken.model",  "vocab.txt"};
  if (size == 0) return 0;
  const std::string name = kFiles[data[0] % std::size(kFiles)];
  for (const auto& left : std::filesystem::directory_iterator(fuzz::folder())) std::filesystem::remove(left.path());
  if (name == "vocab.json") fuzz::write("merges.txt", "#version: 0.2\na b\nab c\n");
  if (name == "merges.txt") fuzz::write("vocab.json", R"({"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4})");
  if (name == "tiktoken.model" || name == "vocab.txt" || name == "tekken.json")
    fuzz::write("tokenizer_config.json", R"({"tokenizer_class": "PreTrainedTokenizerFast"})");
  if (name == "tokenizer_config.json")
    fuzz::write("tokenizer.json", R"({"added_tokens": [], "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2},
      "merges": ["a b"]}})");
  fuzz::write(name, fuzz::text(data + 1, size - 1));
  return fuzz::expect_result_or_exception([&] {
    const Tokenizer tokenizer = Tokenizer::load(fuzz::folder());
    const auto ids = tokenizer.encode("Once upon a t\xc3\xafme, 12345 \xf0\x9f\x99\x82 <s>abc\xff\n\n  x");
    tokenizer.decode(ids);
    Tokenizer::facts(fuzz::folder());
  });
}
