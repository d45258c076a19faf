// SPDX-License-Identifier: Apache-2.0
#include "plugins/formats/gguf/tokenizer.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <optional>
#include <unordered_map>

#include "plugins/formats/gguf/pre_tokenizer.h"
#include "plugins/formats/lib/text.h"

namespace roundhouse::formats {
namespace {

namespace fs = std::filesystem;
using json = nlohmann::json;  // sorted: vocabularies are large, and Json looks its keys up one by one

constexpr const char* kPre = "tokenizer.ggml.pre";
constexpr float kNeverMerged = -1000;

std::optional<std::string> read_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return std::nullopt;
  try {
    return std::string(std::istreambuf_iterator<char>(file), {});
  } catch (const std::ios_base::failure& e) {
    throw rh::Error(RH_DATA_LOSS, cat(path.string(), " cannot be read: ", e.code().message()));
  }
}

// An empty object when there is no such file.
json read_json(const fs::path& path) {
  const auto text = read_text(path);
  if (!text) return json::object();
  json value = json::parse(*text, nullptr, false);
  if (!value.is_object()) throw rh::Error(RH_DATA_LOSS, path.string() + " is not a JSON object");
  return value;
}

std::string text_of(const json& map, const char* key) {
  const auto found = map.find(key);
  return found != map.end() && found->is_string() ? found->get<std::string>() : "";
}

bool is_byte(const std::string& token) {
  return token.size() == 6 && token.starts_with("<0x") && token.back() == '>' &&
         token.substr(3, 2).find_first_not_of("0123456789ABCDEF") == std::string::npos;
}

// A piece of a type that is not known is a normal one.
TokenType token_type(int64_t type) {
  return type >= 1 && type <= 6 ? static_cast<TokenType>(type) : TokenType::kNormal;
}

class Vocabulary {
 public:
  explicit Vocabulary(size_t size) {
    for (size_t i = 0; i < size; ++i) {
      texts_.push_back(cat("[PAD", i, "]"));
      scores_.push_back(-10000);
      types_.push_back(static_cast<int32_t>(TokenType::kUnused));
    }
  }

  void set(int64_t id, const std::string& text, float score, TokenType type) {
    if (id < 0 || id >= static_cast<int64_t>(texts_.size())) {
      ++beyond_;
      return;
    }
    texts_[id] = text;
    scores_[id] = score;
    types_[id] = static_cast<int32_t>(type);
  }

  bool has(int64_t id) const { return id >= 0 && id < static_cast<int64_t>(texts_.size()); }
  bool is(int64_t id, const std::string& text) const { return has(id) && texts_[id] == text; }
  TokenType type(int64_t id) const { return static_cast<TokenType>(types_[id]); }

  void add_to(Metadata& metadata, bool with_scores) const {
    if (beyond_ > 0)
      rh::log(RH_LOG_WARNING, cat("gguf: ", beyond_, " tokens of the tokenizer lie beyond the model's vocabulary of ",
                                  texts_.size(), " and are left out"));
    metadata.texts("tokenizer.ggml.tokens", texts_);
    if (with_scores) metadata.f32s("tokenizer.ggml.scores", scores_);
    metadata.i32s("tokenizer.ggml.token_type", types_);
  }

 private:
  std::vector<std::string> texts_;
  std::vector<float> scores_;
  std::vector<int32_t> types_;
  size_t beyond_ = 0;
};

class TokenizerExport {
 public:
  TokenizerExport(Metadata& metadata, const std::string& folder, const json& facts, const json& model_config,
                  size_t vocab, std::string pre)
      : out_(metadata),
        folder_(folder),
        pre_(std::move(pre)),
        vocabulary_(vocab),
        facts_(facts),
        tokenizer_(facts.at("json")),
        config_(read_json(folder_ / "tokenizer_config.json")),
        model_config_(model_config) {}

  void run() {
    const std::string type = text_of(model(), "type");  // files before tokenizers 0.9 name none
    const bool pairs = type == "BPE" || (type.empty() && model().contains("merges"));
    if (pairs && has_byte_level())
      byte_level();
    else if (facts_.contains("pieces"))
      sentence_piece();
    else if (pairs && model().value("byte_fallback", false))
      merged_pieces();
    else if (type == "Unigram")
      unigram();
    else
      throw rh::Error(RH_INVALID_ARGUMENT, cat(folder_.string(), ": llama.cpp has no tokenizer of the type ", type,
                                               pairs ? " without bytes" : ""));
    special_tokens();
    chat_template();
  }

 private:
  const json& model() const { return tokenizer_.at("model"); }

  // ---- SentencePiece ----

  void sentence_piece() {
    const json& pieces = facts_.at("pieces");
    for (size_t id = 0; id < pieces.size(); ++id)
      vocabulary_.set(static_cast<int64_t>(id), pieces[id].at(0), pieces[id].at(1), token_type(pieces[id].at(2)));
    follow_host();
    finish_pieces();
  }

  // The host's ids count where its files say something else than the pieces.
  void follow_host() {
    const auto follow = [this](const std::string& text, int64_t id) {
      if (vocabulary_.has(id) && !vocabulary_.is(id, text)) vocabulary_.set(id, text, kNeverMerged, TokenType::kNormal);
    };
    const json& vocab = model().at("vocab");
    if (vocab.is_object())
      for (const auto& [text, id] : vocab.items()) follow(text, id);
    else
      for (size_t id = 0; id < vocab.size(); ++id) follow(vocab[id].at(0), static_cast<int64_t>(id));
  }

  // A BPE of pieces with byte fallback: SentencePiece converted. llama.cpp merges the neighbours whose union has the
  // highest score, so the order of the merges becomes the score.
  void merged_pieces() {
    if (model().value("ignore_merges", false) && !parts_of("pre_tokenizer", "pretokenizers").empty())
      throw rh::Error(RH_INVALID_ARGUMENT,
                      cat((folder_ / "tokenizer.json").string(),
                          ": llama.cpp has no tokenizer of pieces that takes whole words before it merges "
                          "(ignore_merges true); choose another format"));
    std::unordered_map<std::string, float> scores;
    const json& merges = model().at("merges");
    for (size_t rank = 0; rank < merges.size(); ++rank)
      scores.emplace(union_of(merges[rank]), -static_cast<float>(rank));
    const std::string unknown = text_of(model(), "unk_token");
    for (const auto& [text, id] : model().at("vocab").items()) {
      const auto score = scores.find(text);
      const bool merged = score != scores.end();
      const TokenType type = text == unknown ? TokenType::kUnknown
                             : is_byte(text) ? TokenType::kByte
                                             : TokenType::kNormal;
      vocabulary_.set(id, text,
                      merged                                                ? score->second
                      : code_points(text) > 1 && type == TokenType::kNormal ? -1e9f
                                                                            : 0,
                      type);
    }
    finish_pieces();
  }

  void unigram() {
    rh::log(RH_LOG_WARNING,
            "gguf: llama.cpp merges pieces by their scores; it may split texts in other ways than this "
            "Unigram tokenizer");
    const json& vocab = model().at("vocab");
    const int64_t unknown =
        model().value("unk_id", json()).is_number_integer() ? model().at("unk_id").get<int64_t>() : -1;
    for (size_t id = 0; id < vocab.size(); ++id) {
      const std::string text = vocab[id].at(0);
      const TokenType type = static_cast<int64_t>(id) == unknown ? TokenType::kUnknown
                             : is_byte(text)                     ? TokenType::kByte
                                                                 : TokenType::kNormal;
      vocabulary_.set(static_cast<int64_t>(id), text, vocab[id].at(1), type);
    }
    finish_pieces();
  }

  void finish_pieces() {
    add_added_tokens();
    out_.text("tokenizer.ggml.model", "llama");
    out_.text(kPre, "default");
    vocabulary_.add_to(out_, true);
    out_.flag("tokenizer.ggml.add_space_prefix", prepends_space());
  }

  // "a b", or since tokenizers 0.20 ["a", "b"].
  static std::string union_of(const json& merge) {
    if (merge.is_array()) return merge.at(0).get<std::string>() + merge.at(1).get<std::string>();
    std::string text = merge;
    return text.erase(text.find(' '), 1);
  }

  void add_added_tokens() {
    for (const json& token : tokenizer_.value("added_tokens", json::array())) {
      if (!token.at("id").is_number_integer()) continue;
      const int64_t id = token.at("id");
      const std::string text = text_of(token, "content");
      // The unknown, bytes, and what SentencePiece itself calls control or user-defined stay that.
      const bool told = vocabulary_.is(id, text) && vocabulary_.type(id) != TokenType::kNormal &&
                        vocabulary_.type(id) != TokenType::kUnused;
      if (!told)
        vocabulary_.set(id, text, kNeverMerged,
                        token.value("special", false) ? TokenType::kControl : TokenType::kUserDefined);
    }
  }

  bool prepends_space() const {
    for (const json& part : parts_of("normalizer", "normalizers"))
      if (text_of(part, "type") == "Prepend") return true;
    for (const json& part : parts_of("pre_tokenizer", "pretokenizers"))
      if (text_of(part, "type") == "Metaspace")
        return part.contains("prepend_scheme") ? text_of(part, "prepend_scheme") != "never"
                                               : part.value("add_prefix_space", true);
    return false;
  }

  // A component, or those of a sequence.
  std::vector<json> parts_of(const char* key, const char* list) const {
    const auto found = tokenizer_.find(key);
    if (found == tokenizer_.end() || !found->is_object()) return {};
    if (text_of(*found, "type") == "Sequence" && found->contains(list)) return found->at(list);
    return {*found};
  }

  // ---- byte-level BPE ----

  bool has_byte_level() const {
    const std::vector<json> parts = parts_of("pre_tokenizer", "pretokenizers");
    return std::any_of(parts.begin(), parts.end(), [](const json& p) { return text_of(p, "type") == "ByteLevel"; });
  }

  void byte_level() {
    out_.text("tokenizer.ggml.model", "gpt2");
    out_.text(kPre, pre_.empty() ? known_pre_tokenizer() : pre_);
    for (const auto& [text, id] : model().at("vocab").items()) vocabulary_.set(id, text, 0, TokenType::kNormal);
    add_added_tokens();
    vocabulary_.add_to(out_, false);
    std::vector<std::string> merges;
    for (const json& merge : model().at("merges"))
      merges.push_back(merge.is_array() ? cat(merge.at(0).get<std::string>(), " ", merge.at(1).get<std::string>())
                                        : merge.get<std::string>());
    out_.texts("tokenizer.ggml.merges", merges);
  }

  // The words of a Split, as an expression that llama.cpp's finds all of; else with what is done otherwise.
  static std::string split_words(const json& part) {
    const json& pattern = part.at("pattern");
    const std::string behavior = text_of(part, "behavior");
    const bool invert = part.value("invert", false);
    const std::string words = pattern.contains("Regex") ? text_of(pattern, "Regex") : pattern.dump();
    // Where an expression matches all of every text, it is the same to keep the matches and to remove what is between.
    if (behavior == "Isolated" || (behavior == "Removed" && invert)) return words;
    return cat(words, " ", behavior, invert ? " inverted" : "");
  }

  // llama.cpp knows pre-tokenizers by names (src/llama-vocab.cpp); here they are told by what they do.
  std::string known_pre_tokenizer() const {
    std::string what;
    for (const json& part : parts_of("normalizer", "normalizers"))  // NFC: what texts nearly always are
      if (const std::string type = text_of(part, "type"); type != "NFC") what += cat(what.empty() ? "" : ", ", type);
    for (const json& part : parts_of("pre_tokenizer", "pretokenizers")) {
      const std::string type = text_of(part, "type");
      what += what.empty() ? "" : ", ";
      if (type == "ByteLevel")
        what += cat(part.value("use_regex", true) ? "words" : "bytes",
                    part.value("add_prefix_space", true) ? " after a space" : "");
      else if (type == "Digits")
        what += part.value("individual_digits", false) ? "digits" : "numbers";
      else if (type == "Split" && part.contains("pattern"))
        what += split_words(part);
      else
        what += type;
    }
    const bool ignore_merges = model().value("ignore_merges", false);
    if (const PreTokenizer* known = pre_tokenizer_of(what, ignore_merges)) return known->name;
    if (pre_tokenizer_of(what, !ignore_merges)) what += cat(", ignore_merges ", ignore_merges ? "true" : "false");
    throw rh::Error(
        RH_INVALID_ARGUMENT,
        cat((folder_ / "tokenizer.json").string(), ": which of llama.cpp's pre-tokenizers this is (", what,
            ") is not known. Name it with the format's option pre, as in src/llama-vocab.cpp of llama.cpp"));
  }

  // ---- both ----

  // The token of a role, in the files' words or the model's; none beyond the model's vocabulary.
  std::optional<int64_t> role(const char* name) const {
    std::optional<int64_t> id;
    if (const auto found = facts_.at("roles").find(name); found != facts_.at("roles").end()) id = found->get<int64_t>();
    const auto said = model_config_.find(cat(name, "_token_id"));
    if (!id && said != model_config_.end())
      for (const json& one : said->is_array() ? *said : json::array({*said}))  // of several ends, the first
        if (!id && one.is_number_integer()) id = one.get<int64_t>();
    if (!id || vocabulary_.has(*id)) return id;
    rh::log(RH_LOG_WARNING,
            cat("gguf: ", name, "_token_id is ", *id, ", beyond the model's vocabulary: it is left out"));
    return std::nullopt;
  }

  // llama.cpp puts bos before texts and eos behind them, as far as the flags say; without flags it follows a default of
  // its own. So both are written, as the host's tokenizer does it.
  void special_tokens() {
    const std::optional<int64_t> bos = around("before", "bos"), eos = around("after", "eos");
    constexpr struct {
      const char *name, *key;
    } kTokens[] = {
        {"unk", "unknown"}, {"sep", "seperator"}, {"pad", "padding"}, {"mask", "mask"}};  // ggml spells it so
    const auto write = [this](const char* key, std::optional<int64_t> id) {
      if (id) out_.u32(cat("tokenizer.ggml.", key, "_token_id"), static_cast<uint64_t>(*id));
    };
    write("bos", bos);
    write("eos", eos);
    if (!eos)
      rh::log(RH_LOG_WARNING,
              "gguf: neither the tokenizer nor config.json (eos_token_id) names the token that ends a text: llama.cpp "
              "takes "
              "one of its own, and may not stop where the model does");
    for (const auto& [name, key] : kTokens) write(key, role(name));
  }

  // Writes whether texts have the role's token at that end; returns the token. What stands alone before every text is
  // bos to llama.cpp, which uses it for nothing else; eos ends a generation as well and stays what it is.
  std::optional<int64_t> around(const char* side, const char* name) {
    const std::vector<int64_t> ids = facts_.at(side);
    std::optional<int64_t> id = role(name);
    const bool is_bos = name == std::string("bos");
    if (ids.size() == 1 && vocabulary_.has(ids[0]) && (is_bos || !id)) id = ids[0];
    const bool added = ids.size() == 1 && id == ids[0];
    if (!ids.empty() && !added)
      rh::log(RH_LOG_WARNING, cat("gguf: the tokenizer puts other tokens than ", name, " ", side,
                                  " every text; llama.cpp will not put them there"));
    out_.flag(cat("tokenizer.ggml.add_", name, "_token"), added);
    return id;
  }

  void chat_template() {
    std::string text;
    const auto said = config_.find("chat_template");
    if (const auto file = read_text(folder_ / "chat_template.jinja")) {  // transformers' order
      text = *file;
    } else if (said != config_.end() && !said->is_null()) {
      if (said->is_string()) text = *said;
      if (said->is_array())
        for (const json& entry : *said)
          if (text.empty() || text_of(entry, "name") == "default") text = text_of(entry, "template");
    } else {
      text = text_of(read_json(folder_ / "chat_template.json"), "chat_template");
    }
    if (!text.empty()) out_.text("tokenizer.chat_template", text);
  }

  Metadata& out_;
  const fs::path folder_;
  const std::string pre_;
  Vocabulary vocabulary_;
  const json& facts_;      // what the host tells of the tokenizer
  const json& tokenizer_;  // as tokenizer.json
  const json config_;
  const json& model_config_;
};

}  // namespace

void add_tokenizer(Metadata& metadata, const rh_export& target, size_t vocab, const std::string& pre) {
  const std::string folder = model_folder(target);
  try {
    const json facts = json::parse(rh::model_text(target, "tokenizer"));
    const json model_config = json::parse(rh::model_text(target, "config"));
    if (facts.contains("error")) throw rh::Error(RH_INVALID_ARGUMENT, facts.at("error"));
    TokenizerExport(metadata, folder, facts, model_config, vocab, pre).run();
  } catch (const json::exception& e) {
    throw rh::Error(RH_DATA_LOSS, cat(folder, ": the tokenizer's files are damaged: ", e.what()));
  }
}

}  // namespace roundhouse::formats
