// SPDX-License-Identifier: Apache-2.0
// Tokenizers against the ids that the `tokenizers` package gave (make_tokenizer_cases.py recorded them).
#include "host/text/tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "host/base/error.h"
#include "tests/temp_folder.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;

const fs::path kTokenizers = fs::path(TEST_DATA) / "text/tokenizers";

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  std::ostringstream content;
  content << file.rdbuf();
  return content.str();
}

std::string bytes_of_hex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i < hex.size(); i += 2) bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return bytes;
}

// The texts of a folder of cases, by name; some are not valid UTF-8.
std::map<std::string, std::string> texts_of(const fs::path& folder) {
  std::map<std::string, std::string> texts;
  for (const auto& entry : nlohmann::json::parse(read(folder / "texts.json"))) {
    std::string& text = texts[entry.at("name")];
    if (entry.contains("text")) text = entry["text"];
    if (entry.contains("hex")) text = bytes_of_hex(entry["hex"]);
    if (entry.contains("file")) text = read(folder / entry["file"].get<std::string>());
  }
  return texts;
}

// Where two lists part, with a few ids around it: a list of 300,000 says nothing.
std::string difference(const std::vector<int32_t>& actual, const std::vector<int32_t>& expected) {
  const auto [a, e] = std::mismatch(actual.begin(), actual.end(), expected.begin(), expected.end());
  if (a == actual.end() && e == expected.end()) return "";
  const auto position = a - actual.begin();
  const auto around = [position](const std::vector<int32_t>& ids) {
    std::string text;
    for (auto i = std::max<ptrdiff_t>(0, position - 3); i < std::min<ptrdiff_t>(std::ssize(ids), position + 6); ++i) {
      text += cat(" ", ids[static_cast<size_t>(i)]);
    }
    return text;
  };
  return cat("differs at ", position, ": got ", actual.size(), " ids, ...", around(actual), "; expected ",
             expected.size(), ", ...", around(expected));
}

// The folders with recorded ids: the repository's, and those of a folder of one's own.
std::vector<fs::path> tokenizer_folders() {
  std::vector<fs::path> parents = {kTokenizers};
  if (const char* more = std::getenv("ROUNDHOUSE_TOKENIZER_CASES")) parents.emplace_back(more);
  std::vector<fs::path> folders;
  for (const fs::path& parent : parents) {
    for (const auto& entry : fs::directory_iterator(parent)) {
      if (fs::exists(entry.path() / "expected.json")) folders.push_back(entry.path());
    }
  }
  std::sort(folders.begin(), folders.end());
  return folders;
}

std::string case_name(const testing::TestParamInfo<fs::path>& info) {
  std::string name =
      cat(info.param.filename().string(), info.param.parent_path() == kTokenizers ? "" : "_of_environment");
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); }, '_');
  return name;
}

class RecordedTokenizer : public testing::TestWithParam<fs::path> {};
INSTANTIATE_TEST_SUITE_P(Folder, RecordedTokenizer, testing::ValuesIn(tokenizer_folders()), case_name);

TEST_P(RecordedTokenizer, GivesThePackagesIds) {
  const Tokenizer tokenizer = Tokenizer::load(GetParam());
  const auto texts = texts_of(GetParam().parent_path());
  const auto expected = nlohmann::json::parse(read(GetParam() / "expected.json"));
  ASSERT_GT(expected.size(), 10u);
  for (const auto& [name, record] : expected.items()) {
    SCOPED_TRACE(name);
    const std::string& text = texts.at(name);
    const std::vector<int32_t> plain = tokenizer.encode(text, false);
    EXPECT_EQ(difference(plain, record.at("plain")), "");
    EXPECT_EQ(difference(tokenizer.encode(text), record.at("ids")), "");
    EXPECT_TRUE(tokenizer.decode(plain, false) == record.at("decoded").get<std::string>())
        << tokenizer.decode(plain, false).substr(0, 400) << "\n---\n"
        << record.at("decoded").get<std::string>().substr(0, 400);
  }
}

TEST(Tokenizer, RolesComeFromTheConfigurationOrTheSpecialTokensMap) {
  const Tokenizer tiny_stories = Tokenizer::load(kTokenizers / "tinystories-656k");
  EXPECT_EQ(tiny_stories.pad_id(), 0);
  EXPECT_EQ(tiny_stories.bos_id(), 1);
  EXPECT_EQ(tiny_stories.eos_id(), 2);
  EXPECT_EQ(tiny_stories.vocab_size(), 2048u);
  const Tokenizer stories = Tokenizer::load(kTokenizers / "stories260K");
  EXPECT_EQ(stories.pad_id(), std::nullopt);
  EXPECT_EQ(stories.eos_id(), 2);

  const TempFolder folder;
  fs::copy_file(kTokenizers / "stories260K/tokenizer.json", folder.path() / "tokenizer.json");
  folder.write("special_tokens_map.json",
               R"({"pad_token": {"content": "<unk>"}, "bos_token": "</s>", "eos_token": "not in the vocabulary"})");
  const Tokenizer mapped = Tokenizer::load(folder.path());
  EXPECT_EQ(mapped.pad_id(), 0);
  EXPECT_EQ(mapped.bos_id(), 2);
  EXPECT_EQ(mapped.eos_id(), 512);  // transformers adds it
  EXPECT_EQ(mapped.vocab_size(), 513u);
  EXPECT_EQ(mapped.token(512), "not in the vocabulary");
  EXPECT_EQ(mapped.token(513), "");
  EXPECT_EQ(mapped.encode("not in the vocabulary", false), std::vector<int32_t>{512});
}

TEST(Tokenizer, AddedTokensCountBeyondTheVocabulary) {
  const Tokenizer gpt2 = Tokenizer::load(kTokenizers / "made-gpt2");
  const Tokenizer phi = Tokenizer::load(kTokenizers / "made-phi");  // gpt2 and 30 runs of spaces, 8 of tabs
  EXPECT_EQ(phi.vocab_size(), gpt2.vocab_size() + 38);
  EXPECT_EQ(phi.token_id("\t\t"), static_cast<int32_t>(phi.vocab_size()) - 1);
  EXPECT_EQ(phi.token_id("\t\t\t\t\t\t\t\t\t\t"), std::nullopt);
}

TEST(Tokenizer, CuttingKeepsTheSpecialTokens) {
  const Tokenizer tokenizer = Tokenizer::load(kTokenizers / "made-llama2");  // <s> text </s>
  const std::vector<int32_t> all = tokenizer.encode("Hello world, it's the year 1984");
  ASSERT_GT(all.size(), 6u);
  EXPECT_EQ(tokenizer.encode("Hello world, it's the year 1984", true, all.size()), all);
  EXPECT_EQ(tokenizer.encode("Hello world, it's the year 1984", true, 5),
            (std::vector<int32_t>{all[0], all[1], all[2], all[3], all.back()}));
  EXPECT_EQ(tokenizer.encode("Hello world, it's the year 1984", false, 2), (std::vector<int32_t>{all[1], all[2]}));
}

TEST(Tokenizer, DecodingSkipsSpecialTokensWhenAsked) {
  const Tokenizer tokenizer = Tokenizer::load(kTokenizers / "tinystories-656k");
  const std::vector<int32_t> ids = tokenizer.encode("Once upon a time");
  EXPECT_EQ(tokenizer.decode(ids), "Once upon a time");
  EXPECT_EQ(tokenizer.decode(ids, false), "<|start_story|> Once upon a time");
  EXPECT_EQ(tokenizer.decode(std::vector<int32_t>{-1, 1 << 30}), "");
}

TEST(Tokenizer, SurvivesMovingItsSource) {
  Tokenizer first = Tokenizer::load(kTokenizers / "made-qwen2");
  const std::vector<int32_t> ids = first.encode("moved 123");
  Tokenizer second = std::move(first);
  EXPECT_EQ(second.encode("moved 123"), ids);
  EXPECT_EQ(second.decode(ids), "moved 123");
}

TEST(Tokenizer, MayBeUsedFromSeveralThreads) {
  const Tokenizer tokenizer = Tokenizer::load(kTokenizers / "made-llama3");
  const std::string text = texts_of(kTokenizers).at("mixed");
  const std::vector<int32_t> expected = tokenizer.encode(text);
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int k = 0; k < 50; ++k) wrong += tokenizer.encode(text) != expected || tokenizer.decode(expected).empty();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

// A merge loop that is quadratic in the length of a word would take hours.
TEST(Tokenizer, AMillionSpacesAreNotQuadratic) {
  for (const char* name : {"made-gpt2", "made-llama2", "made-phi", "made-qwen2"}) {
    const Tokenizer tokenizer = Tokenizer::load(kTokenizers / name);
    const std::string spaces(1'000'000, ' ');
    const auto start = std::chrono::steady_clock::now();
    EXPECT_FALSE(tokenizer.encode(spaces).empty());
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20)) << name;
  }
}

// Loads `json` from a folder and returns the message of the error, without the file's name in front.
std::string load_error(const std::string& json) {
  const TempFolder folder;
  const fs::path file = folder.write("tokenizer.json", json);
  try {
    Tokenizer::load(folder.path());
  } catch (const Error& error) {
    const std::string message = error.what();
    const std::string prefix = file.string() + ": ";
    EXPECT_EQ(message.find(prefix), 0u) << message;
    return message.substr(prefix.size());
  }
  return "no error";
}

TEST(Tokenizer, RefusesWhatItCannotReadAndSaysWhatItCan) {
  const auto refused = [](const char* pointer, const nlohmann::json& value) {
    auto json = nlohmann::json::parse(R"({"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}]},
      "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}})");
    json[nlohmann::json::json_pointer(pointer)] = value;
    return load_error(json.dump());
  };
  EXPECT_EQ(refused("/version", "1.0"), "no error");
  EXPECT_EQ(refused("/model/type", "Morphemes"),
            "model of type Morphemes: this type is not supported; supported are BPE, Unigram, WordPiece and WordLevel");
  EXPECT_EQ(refused("/model/type", "Unigram"), "model of type Unigram: has no \"vocab\" list");
  EXPECT_EQ(refused("/model", nlohmann::json::parse(R"({"type": "Unigram", "vocab": [["a", 0], ["b"]]})")),
            "model of type Unigram: vocab[1] is not [\"piece\", score]");
  EXPECT_EQ(refused("/model", nlohmann::json::parse(R"({"type": "Unigram", "vocab": [["a", 0]], "unk_id": 1})")),
            "model of type Unigram: \"unk_id\" is beyond the vocabulary");
  EXPECT_EQ(refused("/model/type", "WordPiece"), "model of type WordPiece: has no \"continuing_subword_prefix\"");
  EXPECT_EQ(
      refused("/normalizer/normalizers/0/type", "Reversed"),
      "normalizer.normalizers[0] of type Reversed: this type is not supported; supported are Sequence, Prepend, "
      "Replace, NFC, NFD, NFKC, NFKD, Strip, StripAccents, Lowercase, ByteLevel, Precompiled, Nmt and BertNormalizer");
  for (const auto& [table, problem] : {std::pair("", "the table of characters is damaged"),
                                       {"AAAA", "the table of characters is damaged"},
                                       {"/////w==", "the table of characters is damaged"}}) {
    EXPECT_EQ(refused("/normalizer/normalizers/0", {{"type", "Precompiled"}, {"precompiled_charsmap", table}}),
              cat("normalizer.normalizers[0] of type Precompiled: \"precompiled_charsmap\": ", problem));
  }
  EXPECT_EQ(refused("/normalizer/normalizers/0", {{"type", "Precompiled"}, {"precompiled_charsmap", "a b"}}),
            "normalizer.normalizers[0] of type Precompiled: \"precompiled_charsmap\" is not base64");
  EXPECT_EQ(
      refused("/pre_tokenizer/type", "UnicodeScripts"),
      "pre_tokenizer of type UnicodeScripts: this type is not supported; supported are Sequence, ByteLevel, Split, "
      "Metaspace, Whitespace, WhitespaceSplit, Digits, Punctuation, CharDelimiterSplit and BertPreTokenizer");
  EXPECT_EQ(refused("/decoder/type", "CTC"),
            "decoder of type CTC: this type is not supported; supported are Sequence, ByteLevel, ByteFallback, Fuse, "
            "Strip, Replace, Metaspace, BPEDecoder and WordPiece");
  EXPECT_EQ(refused("/post_processor/type", "Other"),
            "post_processor of type Other: this type is not supported; supported are TemplateProcessing, ByteLevel, "
            "BertProcessing, RobertaProcessing and Sequence");
  EXPECT_EQ(refused("/pre_tokenizer", nlohmann::json::parse(R"({"type": "Split", "pattern": {"Regex": "(a"},
              "behavior": "Isolated", "invert": false})")),
            "pre_tokenizer of type Split: \"pattern\": bad regular expression \"(a\": "
            "end pattern with unmatched parenthesis");
  EXPECT_EQ(refused("/pre_tokenizer", {{"type", "Digits"}}),
            "pre_tokenizer of type Digits: has no \"individual_digits\"");
  EXPECT_EQ(refused("/model/dropout", 0.1), "model of type BPE: \"dropout\" draws tokens at random; set it to null");
  EXPECT_EQ(refused("/model/merges/0", "a c"),
            "model of type BPE: merges[0] needs the token \"c\", which is not in the vocabulary");
  EXPECT_EQ(refused("/model/merges/0", "ab"), "model of type BPE: merges[0] is neither \"a b\" nor [\"a\", \"b\"]");
  EXPECT_EQ(refused("/added_tokens", "none"), "\"added_tokens\" is not a list");
  EXPECT_EQ(refused("/model/vocab/a", -1), "model of type BPE: the id of \"a\" is not an integer of 31 bits");
}

TEST(Tokenizer, RefusesDamagedFiles) {
  EXPECT_EQ(load_error("{\"model\": ").find("is not valid JSON: "), 0u);
  EXPECT_EQ(load_error("[]"), "is not a JSON object");
  EXPECT_EQ(load_error("{}"), "has no \"model\"");
}

std::string error_in(const fs::path& folder) {
  try {
    Tokenizer::load(folder);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Tokenizer, SaysWhichFilesItLooksFor) {
  EXPECT_EQ(error_in("no/such/model"),
            "no/such/model: there is no tokenizer: none of tokenizer.json, tekken.json, tokenizer.model, "
            "tiktoken.model, *.tiktoken, vocab.json with merges.txt, and vocab.txt. Download the model's tokenizer "
            "files into the folder.");
}

TEST(Tokenizer, RefusesFormsThatItCannotReadAndSaysHowToConvertThem) {
  const auto refused = [](const std::map<std::string, std::string>& files) {
    const TempFolder folder;
    for (const auto& [name, content] : files) folder.write(name, content);
    std::string message = error_in(folder.path());
    for (size_t at; (at = message.find(folder.path().string())) != std::string::npos;)
      message.replace(at, folder.path().string().size(), "DIR");
    for (const auto& [name, content] : files) fs::remove(folder.path() / name);
    return message;
  };
  const std::string advice =
      ". Write its tokenizer.json, with transformers installed: python3 -c \"from transformers import AutoTokenizer as "
      "T; "
      "T.from_pretrained('DIR').save_pretrained('DIR')\"";
  EXPECT_EQ(refused({{"spiece.model", ""}}), "DIR/spiece.model: is not read by itself" + advice);
  EXPECT_EQ(refused({{"vocab.json", "{}"}}), "DIR/vocab.json: is not read by itself" + advice);
  EXPECT_EQ(refused({{"vocab.json", "{}"},
                     {"merges.txt", ""},
                     {"tokenizer_config.json", R"({"tokenizer_class": "CLIPTokenizerFast"})"}}),
            "DIR/vocab.json: how a CLIPTokenizer splits texts is not known" + advice);
  EXPECT_EQ(refused({{"qwen.tiktoken", "IQ== 0\n"}, {"tokenizer_config.json", R"({"auto_map": {}})"}}),
            "DIR/qwen.tiktoken: the words that it splits texts into are in the model's own code (auto_map)" + advice);
  EXPECT_EQ(refused({{"qwen.tiktoken", "IQ== 0\nIg==\n"}}),
            "DIR/qwen.tiktoken:2: is not a token in base64 and its rank");
  const auto with_token = [&](const std::string& id) {
    const std::string llama = R"({"tokenizer_class": "PreTrainedTokenizerFast", "added_tokens_decoder": {")";
    return refused({{"tokenizer.model", "IQ== 0\nIg== 1\n"},
                    {"tokenizer_config.json", llama + id + R"(": {"content": "<a>"}}})"}});
  };
  EXPECT_EQ(with_token("2"), "no error");
  EXPECT_EQ(with_token("2x"),
            "DIR/tokenizer_config.json: added_tokens_decoder has the key \"2x\", which is no token id");
  EXPECT_EQ(
      with_token("99999999999999999999"),
      "DIR/tokenizer_config.json: added_tokens_decoder has the key \"99999999999999999999\", which is no token id");
  EXPECT_EQ(with_token("2000000000"),
            "DIR/tokenizer_config.json: added_tokens_decoder has the id 2000000000, and "
            "tokenizer.model has 2 tokens");
  EXPECT_EQ(refused({{"vocab.json", R"({"a": 0})"}, {"merges.txt", "#version: 0.2\na b c\n"}}),
            "DIR/merges.txt:2: is not two tokens with a space between");
  EXPECT_EQ(refused({{"tekken.json", R"({"vocab": []})"}}).find("DIR/tekken.json: is no tekken file, or damaged: "),
            0u);
}

// The ids are transformers': in the order of the file, with those that have names before the list.
TEST(Tokenizer, SpecialTokensWithNamesGetTheirIdsInTheFilesOrder) {
  const TempFolder folder;
  folder.write("tokenizer.json", R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}})");
  const auto ids = [&](const std::string& config) {
    folder.write("tokenizer_config.json", config);
    return Tokenizer::load(folder.path()).encode("<x><t><y>", false);
  };
  using Ids = std::vector<int32_t>;
  EXPECT_EQ(ids(R"({"extra_special_tokens": {"y_token": "<y>", "x_token": "<x>", "b_token": "<t>"}})"), Ids({3, 4, 2}));
  EXPECT_EQ(ids(R"({"additional_special_tokens": ["<x>"], "tool_token": "<t>", "image_token": "<y>",
                    "add_bos_token": true, "max": Infinity})"),
            Ids({4, 2, 3}));
  EXPECT_EQ(ids(R"({"model_specific_special_tokens": {"z": "<y>"}, "extra_special_tokens": ["<t>", "<x>"],
                    "additional_special_tokens": ["<w>"]})"),
            Ids({4, 3, 2}));
}

TEST(Tokenizer, RefusesASentencePieceModelCutAnywhere) {
  const std::string whole = read(kTokenizers / "made-llama-files/tokenizer.model");
  const TempFolder folder;
  for (size_t size = 1; size < whole.size(); size += 97) {
    folder.write("tokenizer.model", whole.substr(0, size));
    const std::string message = error_in(folder.path());  // a cut between two fields leaves a smaller model
    EXPECT_TRUE(message == "no error" || message.find("/tokenizer.model: ") != std::string::npos) << message;
  }
  folder.write("tokenizer.model", "");
  EXPECT_NE(error_in(folder.path()).find("is no SentencePiece model, or damaged: it has no pieces"), std::string::npos);
}

// The package loads it, and fails when a text needs the token.
TEST(Tokenizer, AnUnknownTokenThatTheVocabularyLacksIsNeededByTextsAlone) {
  const TempFolder folder;
  for (const char* model :
       {R"({"type": "BPE", "unk_token": "<unk>", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]})",
        R"({"type": "WordLevel", "unk_token": "<unk>", "vocab": {"ab": 2}})"}) {
    folder.write("tokenizer.json", cat(R"({"model": )", model, "}"));
    const Tokenizer tokenizer = Tokenizer::load(folder.path());
    EXPECT_EQ(tokenizer.encode("ab"), std::vector<int32_t>{2});
    try {
      tokenizer.encode("c");
      FAIL();
    } catch (const Error& error) {
      EXPECT_STREQ(error.what(),
                   "the tokenizer has no token for \"c\", and its token for what is unknown, <unk>, is not in its "
                   "vocabulary; leave the text out, or add the token to the tokenizer's files");
    }
  }
}

// The package numbers new tokens by the size of the vocabulary, whatever its ids and those in the file.
TEST(Tokenizer, GapsInTheIdsAreThePackages) {
  const TempFolder folder;
  const auto token = [](const std::string& text, int id) {
    return nlohmann::json{{"id", id},        {"content", text},     {"single_word", false}, {"lstrip", false},
                          {"rstrip", false}, {"normalized", false}, {"special", false}};
  };
  nlohmann::json json = {
      {"added_tokens", {token("Y", 508), token("Z", 510), token("W", 700)}},
      {"model", {{"type", "BPE"}, {"vocab", {{"a", 0}, {"b", 1}, {"Y", 508}}}, {"merges", nlohmann::json::array()}}}};
  folder.write("tokenizer.json", json.dump());
  EXPECT_EQ(Tokenizer::load(folder.path()).encode("aYZWb"), (std::vector<int32_t>{0, 508, 3, 4, 1}));
}

// What formats are told: one numbering, and what stands around an empty text.
TEST(Tokenizer, FactsHaveTheIdsOfTexts) {
  const auto facts = Tokenizer::facts(kTokenizers / "made-added-files");
  const Tokenizer tokenizer = Tokenizer::load(kTokenizers / "made-added-files");
  size_t tokens = 0;
  for (const auto& entry : facts.at("json").at("added_tokens")) {
    const std::string text = entry.at("content");
    EXPECT_EQ(tokenizer.token_id(text), entry.at("id").get<int32_t>()) << text;
    tokens += text == "[L]" || text == "[R]" || text == "WORD" || text == "<s>";
  }
  EXPECT_GE(tokens, 4u);
  EXPECT_EQ(facts.at("roles"), (nlohmann::json{{"bos", *tokenizer.token_id("<s>")}}));
  for (const fs::path& folder : tokenizer_folders()) {
    const auto told = Tokenizer::facts(folder);
    ASSERT_FALSE(told.contains("error")) << told["error"];
    std::vector<int32_t> around = told.at("before");
    for (const int32_t id : told.at("after").get<std::vector<int32_t>>()) around.push_back(id);
    EXPECT_EQ(Tokenizer::load(folder).encode(""), around) << folder;
  }
  EXPECT_EQ(Tokenizer::facts("no/such/model").at("error").get<std::string>().find("no/such/model: there is no"), 0u);
}

// Old files give the model no type.
TEST(Tokenizer, ReadsAModelWithoutType) {
  EXPECT_EQ(load_error(R"({"model": {"vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["#version: 0.2", "a b"]}})"),
            "no error");
}

// Long words are merged in parts, cut where no merge can join; one id for two texts must not hide a merge.
TEST(Tokenizer, TwoTextsMayShareAnId) {
  const TempFolder folder;
  folder.write("tokenizer.json",
               R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 1, "ab": 2}, "merges": [["a", "b"]]}})");
  const Tokenizer tokenizer = Tokenizer::load(folder.path());
  for (const std::string pair : {"ab", "ac"}) {
    std::string word;
    for (int i = 0; i < 50; ++i) word += pair;
    EXPECT_EQ(tokenizer.encode(word), std::vector<int32_t>(50, 2)) << pair;
  }
}

}  // namespace
}  // namespace roundhouse
