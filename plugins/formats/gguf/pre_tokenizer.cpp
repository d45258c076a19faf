#include "plugins/formats/gguf/pre_tokenizer.h"

#include <algorithm>
#include <iterator>

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
    {"qwen2", kQwenWords, false, true},
    {"deepseek-r1-qwen", kQwenWords, false, true},
    {"tekken", kTekkenWords, false, false, true, true},
};

}  // namespace

const PreTokenizer* pre_tokenizer(const std::string& name) {
  const auto* found = std::find_if(std::begin(kPreTokenizers), std::end(kPreTokenizers),
                                   [&](const PreTokenizer& pre) { return name == pre.name; });
  return found == std::end(kPreTokenizers) ? nullptr : found;
}

const PreTokenizer* pre_tokenizer_of(const std::string& words) {
  const auto* found = std::find_if(std::begin(kPreTokenizers), std::end(kPreTokenizers),
                                   [&](const PreTokenizer& pre) { return *pre.words && words == pre.words; });
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
