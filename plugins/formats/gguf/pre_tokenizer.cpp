// SPDX-License-Identifier: Apache-2.0
#include "plugins/formats/gguf/pre_tokenizer.h"

#include <algorithm>
#include <iterator>

#include "plugins/formats/lib/text.h"

namespace roundhouse::formats {
namespace {

constexpr char kLlama3Words[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr char kQwenWords[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr char kTekkenWords[] =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr PreTokenizer kPreTokenizers[] = {
    {"gpt-2", ""},
    {"starcoder", "", true},
    {"smollm", "", true},
    {"llama-bpe", kLlama3Words, false, false, true, true},
    {"llama3", kLlama3Words, false, false, true, true},
    {"llama-v3", kLlama3Words, false, false, true, true},
    {"dbrx", kLlama3Words},
    {"qwen2", kQwenWords, false, true},
    {"deepseek-r1-qwen", kQwenWords, false, true},
    {"tekken", kTekkenWords, false, false, true, true},
};

// The values of tokenizer.ggml.pre in src/llama-vocab.cpp of November 2026.
constexpr const char* kKnown[] = {
    "a.x-4.0",
    "afmoe",
    "bailingmoe",
    "bailingmoe2",
    "bloom",
    "chameleon",
    "chatglm-bpe",
    "codeshell",
    "command-r",
    "dbrx",
    "deepseek-coder",
    "deepseek-llm",
    "deepseek-r1-qwen",
    "deepseek-v3",
    "default",
    "exaone",
    "exaone-moe",
    "exaone4",
    "f2llmv2",
    "falcon",
    "falcon-h1",
    "falcon3",
    "gemma4",
    "gigachat",
    "glm4",
    "gpt-2",
    "gpt-4o",
    "gpt3-finnish",
    "granite-docling",
    "granite-embed-multi-311m",
    "grok-2",
    "hunyuan",
    "hunyuan-dense",
    "jais",
    "jais-2",
    "jina-de",
    "jina-es",
    "jina-v1-en",
    "jina-v2-code",
    "jina-v2-de",
    "jina-v2-es",
    "jina-v5-nano",
    "joyai-llm",
    "kanana2",
    "kimi-k2",
    "kormo",
    "lfm2",
    "llada-moe",
    "llama-bpe",
    "llama-v3",
    "llama3",
    "llama4",
    "megrez",
    "mellum",
    "midm-2.0",
    "minerva-7b",
    "minicpm5",
    "minimax-m2",
    "modern-bert",
    "mpt",
    "olmo",
    "phi-2",
    "pixtral",
    "poro-chat",
    "qwen2",
    "qwen35",
    "refact",
    "roberta-bpe",
    "sarvam-moe",
    "seed-coder",
    "smaug-bpe",
    "smollm",
    "solar-open",
    "spark2_5",
    "stablelm2",
    "starcoder",
    "superbpe",
    "talkie",
    "tekken",
    "tiny_aya",
    "trillion",
    "viking",
    "whitespace",
    "youtu",
};

}  // namespace

bool llama_cpp_knows(const std::string& name) {
  return std::any_of(std::begin(kKnown), std::end(kKnown), [&](const char* known) { return name == known; });
}

std::string pre_tokenizer_names() { return Json(kKnown).dump(); }

const PreTokenizer* pre_tokenizer(const std::string& name) {
  const auto* found = std::find_if(std::begin(kPreTokenizers), std::end(kPreTokenizers),
                                   [&](const PreTokenizer& pre) { return name == pre.name; });
  return found == std::end(kPreTokenizers) ? nullptr : found;
}

const PreTokenizer* pre_tokenizer_of(const std::string& what, bool ignore_merges) {
  const auto does = [](const PreTokenizer& pre) {
    return cat(pre.digits ? "digits, " : "", *pre.words ? cat(pre.words, ", bytes") : "words");
  };
  const auto* found = std::find_if(std::begin(kPreTokenizers), std::end(kPreTokenizers), [&](const PreTokenizer& pre) {
    return ignore_merges == pre.ignore_merges && does(pre) == what;
  });
  return found == std::end(kPreTokenizers) ? nullptr : found;
}

Json pre_tokenizer_json(const PreTokenizer& pre) {
  Json parts = Json::array();
  if (pre.digits) parts.push_back({{"type", "Digits"}, {"individual_digits", true}});
  if (*pre.words)
    parts.push_back(
        {{"type", "Split"}, {"pattern", {{"Regex", pre.words}}}, {"behavior", "Isolated"}, {"invert", false}});
  parts.push_back(
      {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", !*pre.words}});
  return {{"type", "Sequence"}, {"pretokenizers", parts}};
}

}  // namespace roundhouse::formats
