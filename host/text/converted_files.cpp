// SPDX-License-Identifier: Apache-2.0
#include "host/text/converted_files.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <sstream>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "host/base/error.h"
#include "host/base/files.h"
#include "host/text/base64.h"
#include "host/text/byte_level.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// What cuts texts into words, by the number of digits that a word may have.
std::string words_of(const std::string& digits) {
  return R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N})" + digits +
         R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
}

json split_then_bytes(const std::string& pattern, bool add_prefix_space) {
  return {{"type", "Sequence"},
          {"pretokenizers",
           {{{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}},
            {{"type", "ByteLevel"}, {"add_prefix_space", add_prefix_space}, {"use_regex", false}}}}};
}

// A BPE over bytes that is given by its tokens alone, each with its rank: a merge for every way to put a token together
// from two others, in the order of the ranks. `first` is the id of rank 0.
json ranked_model(const std::vector<std::pair<std::string, int64_t>>& tokens, int64_t first) {
  const auto& alphabet = ByteLevelAlphabet::instance();
  std::unordered_map<std::string_view, int64_t> ranks;
  json vocab = json::object();
  for (const auto& [bytes, rank] : tokens) {
    ranks[bytes] = rank;
    vocab[alphabet.encode(bytes)] = rank + first;
  }
  std::vector<std::tuple<int64_t, int64_t, int64_t, std::string>> merges;  // ranks of the union, left and right
  for (const auto& [bytes, rank] : tokens) {
    const std::string_view token = bytes;
    for (size_t size = 1; size < token.size(); ++size) {
      const auto left = ranks.find(token.substr(0, size)), right = ranks.find(token.substr(size));
      if (left == ranks.end() || right == ranks.end()) continue;
      merges.emplace_back(rank, left->second, right->second,
                          alphabet.encode(left->first) + " " + alphabet.encode(right->first));
    }
  }
  std::sort(merges.begin(), merges.end());
  json lines = json::array();
  for (auto& merge : merges) lines.push_back(std::move(std::get<3>(merge)));
  return {{"type", "BPE"}, {"vocab", std::move(vocab)}, {"merges", std::move(lines)}, {"ignore_merges", true}};
}

// The text of a role such as unk_token.
std::string content_of(const json& config, const char* key, const std::string& absent) {
  const auto found = config.find(key);
  if (found == config.end()) return absent;
  if (found->is_object()) return found->value("content", absent);
  return found->is_string() ? found->get<std::string>() : absent;
}

}  // namespace

json added_token(const std::string& content, bool special) {
  return {{"content", content}, {"single_word", false},   {"lstrip", false},
          {"rstrip", false},    {"normalized", !special}, {"special", special}};
}

ConvertedTokenizer convert_merges(const fs::path& vocabulary, const fs::path& merges, const json& config, bool qwen2) {
  const bool prefix = config.value("add_prefix_space", json()) == true;
  json lines = json::array();
  std::istringstream content(read_file(merges));
  int number = 0;
  for (std::string line; std::getline(content, line);) {
    ++number;
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty() || line.starts_with("#version")) continue;
    if (std::count(line.begin(), line.end(), ' ') != 1)
      throw Error(cat(merges.string(), ":", number, ": is not two tokens with a space between"));
    lines.push_back(line);
  }
  ConvertedTokenizer made;
  made.json = {{"decoder", {{"type", "ByteLevel"}}},
               {"model", {{"type", "BPE"}, {"vocab", read_json_object(vocabulary)}, {"merges", std::move(lines)}}}};
  made.config = {{"eos_token", "<|endoftext|>"}, {"unk_token", "<|endoftext|>"}};
  if (qwen2) {
    made.json["normalizer"] = {{"type", "NFC"}};
    made.json["pre_tokenizer"] = split_then_bytes(words_of(""), prefix);
    made.config["pad_token"] = "<|endoftext|>";
  } else {
    made.json["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", prefix}, {"use_regex", true}};
    made.config["bos_token"] = "<|endoftext|>";
  }
  return made;
}

ConvertedTokenizer convert_tekken(const fs::path& file) {
  // Files before version 7 leave them out (mistral-common's Tekkenizer.DEPRECATED_SPECIAL_TOKENS).
  constexpr const char* kOldSpecial[] = {"<unk>",
                                         "<s>",
                                         "</s>",
                                         "[INST]",
                                         "[/INST]",
                                         "[AVAILABLE_TOOLS]",
                                         "[/AVAILABLE_TOOLS]",
                                         "[TOOL_RESULTS]",
                                         "[/TOOL_RESULTS]",
                                         "[TOOL_CALLS]",
                                         "[IMG]",
                                         "<pad>",
                                         "[IMG_BREAK]",
                                         "[IMG_END]",
                                         "[PREFIX]",
                                         "[MIDDLE]",
                                         "[SUFFIX]",
                                         "[SYSTEM_PROMPT]",
                                         "[/SYSTEM_PROMPT]",
                                         "[TOOL_CONTENT]"};
  const json content = read_json_object(file);
  try {
    const json& said = content.at("config");
    std::map<int64_t, std::string> special;  // by rank
    if (const auto listed = content.find("special_tokens"); listed != content.end() && listed->is_array()) {
      for (const json& token : *listed)
        special[token.at("rank").get<int64_t>()] = token.at("token_str").get<std::string>();
    } else {
      for (const char* text : kOldSpecial) special.emplace(std::ssize(special), text);
    }
    const int64_t count = said.value("default_num_special_tokens", std::ssize(special));
    for (int64_t rank = 0; rank < count; ++rank) special.emplace(rank, cat("<SPECIAL_", rank, ">"));

    const json& vocab = content.at("vocab");
    const int64_t size =
        std::min<int64_t>(std::ssize(vocab), said.value("default_vocab_size", std::ssize(vocab) + count) - count);
    std::vector<std::pair<std::string, int64_t>> tokens;
    for (int64_t rank = 0; rank < size; ++rank) {
      auto bytes = decode_base64(vocab.at(static_cast<size_t>(rank)).at("token_bytes").get_ref<const std::string&>());
      if (!bytes) throw Error(cat(file.string(), ": vocab[", rank, "] is not base64"));
      tokens.emplace_back(std::move(*bytes), rank);
    }
    ConvertedTokenizer made;
    made.json = {{"pre_tokenizer", split_then_bytes(said.at("pattern"), false)},
                 {"decoder", {{"type", "ByteLevel"}}},
                 {"model", ranked_model(tokens, count)},
                 {"added_tokens", json::array()}};
    for (const auto& [rank, text] : special) {
      made.json["model"]["vocab"][text] = rank;
      made.json["added_tokens"].push_back(added_token(text, true));
    }
    // mistral-common begins every text with <s>.
    made.config = {{"bos_token", "<s>"}, {"eos_token", "</s>"}, {"unk_token", "<unk>"}, {"add_bos_token", true}};
    if (made.json["model"]["vocab"].contains("<pad>")) made.config["pad_token"] = "<pad>";
    return made;
  } catch (const json::exception& error) {
    throw Error(cat(file.string(), ": is no tekken file, or damaged: ", error.what()));
  }
}

namespace {

// "IQ== 0"
std::optional<std::pair<std::string, int64_t>> ranked_token(std::string_view line) {
  const size_t space = line.find(' ');
  if (space == line.npos || space == 0) return std::nullopt;
  auto bytes = decode_base64(line.substr(0, space));
  int64_t rank = -1;
  const char* const end = line.data() + line.size();
  const auto [rest, error] = std::from_chars(line.data() + space + 1, end, rank);
  if (!bytes || bytes->empty() || error != std::errc() || rest != end || rank < 0) return std::nullopt;
  return std::pair(std::move(*bytes), rank);
}

std::string_view without_cr(std::string_view line) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

}  // namespace

int64_t added_token_id(const std::string& key, const fs::path& folder) {
  int32_t id = 0;
  const auto [rest, error] = std::from_chars(key.data(), key.data() + key.size(), id);
  if (error != std::errc() || rest != key.data() + key.size() || id < 0)
    throw Error(cat((folder / "tokenizer_config.json").string(), ": added_tokens_decoder has the key ",
                    json(key).dump(-1, ' ', false, json::error_handler_t::replace), ", which is no token id"));
  return id;
}

bool is_tiktoken(const std::string& content) {
  const std::string_view all = content;
  return ranked_token(without_cr(all.substr(0, all.find('\n')))).has_value();
}

ConvertedTokenizer convert_tiktoken(const fs::path& file, const json& config) {
  std::istringstream content(read_file(file));
  std::vector<std::pair<std::string, int64_t>> tokens;
  int number = 0;
  for (std::string line; std::getline(content, line);) {
    ++number;
    if (without_cr(line).empty()) continue;
    auto token = ranked_token(without_cr(line));
    if (!token) throw Error(cat(file.string(), ":", number, ": is not a token in base64 and its rank"));
    tokens.push_back(std::move(*token));
  }
  ConvertedTokenizer made;
  made.json = {{"pre_tokenizer", split_then_bytes(words_of("{1,3}"), false)},
               {"decoder", {{"type", "ByteLevel"}}},
               {"model", ranked_model(tokens, 0)},
               {"added_tokens", json::array()}};
  // Special tokens have ids behind the ranks; what the configuration leaves out between them is reserved.
  const auto size = static_cast<int64_t>(made.json["model"]["vocab"].size());
  std::map<int64_t, std::string> special;
  if (const auto decoder = config.find("added_tokens_decoder"); decoder != config.end() && decoder->is_object()) {
    for (const auto& [id, token] : decoder->items()) {
      const int64_t at = added_token_id(id, file.parent_path());
      if (at >= size && token.is_object()) special[at] = token.value("content", "");
    }
  }
  // Of more than that nobody has an embedding.
  if (constexpr int64_t kMostSpecial = 1'000'000; !special.empty() && special.rbegin()->first >= size + kMostSpecial)
    throw Error(cat((file.parent_path() / "tokenizer_config.json").string(), ": added_tokens_decoder has the id ",
                    special.rbegin()->first, ", and ", file.filename().string(), " has ", size, " tokens"));
  const int64_t end = special.empty() ? size : special.rbegin()->first + 1;
  for (int64_t id = size; id < end; ++id) {
    const auto found = special.find(id);
    made.json["added_tokens"].push_back(
        added_token(found == special.end() ? cat("<|reserved_token_", id, "|>") : found->second, true));
  }
  return made;
}

ConvertedTokenizer convert_word_pieces(const fs::path& file, const json& config) {
  json vocab = json::object();
  std::istringstream content(read_file(file));
  int64_t id = 0;
  for (std::string line; std::getline(content, line); ++id) vocab[std::string(without_cr(line))] = id;
  const auto flag = [&config](const char* key) { return config.value(key, json(true)) != false; };
  ConvertedTokenizer made;
  made.config = {{"unk_token", "[UNK]"},
                 {"sep_token", "[SEP]"},
                 {"pad_token", "[PAD]"},
                 {"cls_token", "[CLS]"},
                 {"mask_token", "[MASK]"}};
  made.json = {{"normalizer",
                {{"type", "BertNormalizer"},
                 {"clean_text", true},
                 {"handle_chinese_chars", flag("tokenize_chinese_chars")},
                 {"strip_accents", config.value("strip_accents", json())},
                 {"lowercase", flag("do_lower_case")}}},
               {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
               {"decoder", {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}}},
               {"model",
                {{"type", "WordPiece"},
                 {"vocab", std::move(vocab)},
                 {"unk_token", content_of(config, "unk_token", "[UNK]")},
                 {"continuing_subword_prefix", "##"},
                 {"max_input_chars_per_word", 100}}}};
  return made;
}

}  // namespace roundhouse
