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
  EXPECT_EQ(mapped.eos_id(), std::nullopt);
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
  EXPECT_EQ(refused("/model/type", "Unigram"), "model of type Unigram: this type is not supported; supported are BPE");
  EXPECT_EQ(refused("/model", {{"type", "WordPiece"}}),
            "model of type WordPiece: this type is not supported; supported are BPE");
  EXPECT_EQ(
      refused("/normalizer/normalizers/0/type", "Precompiled"),
      "normalizer.normalizers[0] of type Precompiled: this type is not supported; supported are Sequence, Prepend, "
      "Replace, NFC, NFD, NFKC, NFKD, Strip, StripAccents, Lowercase and ByteLevel");
  EXPECT_EQ(
      refused("/pre_tokenizer/type", "UnicodeScripts"),
      "pre_tokenizer of type UnicodeScripts: this type is not supported; supported are Sequence, ByteLevel, Split, "
      "Metaspace, Whitespace, WhitespaceSplit, Digits, Punctuation and CharDelimiterSplit");
  EXPECT_EQ(refused("/decoder/type", "CTC"),
            "decoder of type CTC: this type is not supported; supported are Sequence, ByteLevel, ByteFallback, Fuse, "
            "Strip, Replace, Metaspace and BPEDecoder");
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
  EXPECT_EQ(refused("/model/unk_token", "<unk>"), "model of type BPE: \"unk_token\" <unk> is not in the vocabulary");
  EXPECT_EQ(refused("/model/vocab/a", -1), "model of type BPE: the id of \"a\" is not an integer of 31 bits");
}

TEST(Tokenizer, RefusesDamagedFiles) {
  EXPECT_EQ(load_error("{\"model\": ").find("is not valid JSON: "), 0u);
  EXPECT_EQ(load_error("[]"), "is not a JSON object");
  EXPECT_EQ(load_error("{}"), "has no \"model\"");
  try {
    Tokenizer::load("no/such/model");
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "no/such/model/tokenizer.json: cannot be read");
  }
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
