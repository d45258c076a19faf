// SPDX-License-Identifier: Apache-2.0
#include "host/text/calibration.h"

#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "host/base/error.h"
#include "tests/temp_folder.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;

const fs::path kData = fs::path(TEST_DATA) / "text";

Tokenizer load_tokenizer(const std::string& name) { return Tokenizer::load(kData / "tokenizers" / name); }

bool contains(const std::string& message, const std::string& part) { return message.find(part) != message.npos; }

class CalibrationFile : public testing::Test {
 protected:
  static std::string message_of(const std::function<void()>& action) {
    try {
      action();
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }

  TempFolder folder_;
};

using Texts = std::vector<std::string>;

Texts contents(const fs::path& path, const ReadOptions& options = {}) {
  Texts all;
  for (const Text& text : read_texts(path, options)) all.push_back(text.text);
  return all;
}

// record_calibration.py recorded what the reference takes.
TEST(Calibration, TakesTheReferencesSamples) {
  std::ifstream file(kData / "calibration.json");
  const auto recorded = nlohmann::json::parse(file);
  ASSERT_GE(recorded.size(), 5u);
  for (const auto& record : recorded) {
    SCOPED_TRACE(record.at("data").get<std::string>() + " " + record.at("tokenizer").get<std::string>());
    const CalibrationRequest request{
        {{kData / record.at("data").get<std::string>()}}, record.at("samples"), record.at("seqlen"), record.at("seed")};
    CalibrationSet set = load_calibration(request, load_tokenizer(record.at("tokenizer")));
    const auto expected = record.at("expected").get<std::vector<std::vector<int32_t>>>();
    // Where there are too few, what follows in longer texts stands behind them.
    EXPECT_EQ(set.samples.size(), expected.size() + static_cast<size_t>(set.further));
    EXPECT_TRUE(set.further == 0 || expected.size() < static_cast<size_t>(request.samples));
    set.samples.resize(std::min(set.samples.size(), expected.size()));
    EXPECT_EQ(set.samples, expected);
  }
}

TEST(Calibration, CountsWhatItPassesOver) {
  const CalibrationRequest request{{{kData / "records.json"}}, 1000, 16, 0};
  const CalibrationSet set = load_calibration(request, load_tokenizer("stories260K"));
  EXPECT_EQ(set.read, 11);
  EXPECT_EQ(set.too_short, 2);   // "too short" and ""
  EXPECT_EQ(set.repetitive, 1);  // "a a a ..."
  EXPECT_EQ(set.samples.size(), 8u + static_cast<size_t>(set.further));
  EXPECT_EQ(summary(set, request),
            "8 of 11 usable: 2 too short for seqlen 16, 1 repetitive; 1000 samples were asked for");
}

TEST(Calibration, SummaryOfEnoughNamesTheSamples) {
  const CalibrationRequest request{{{kData / "stories.jsonl"}}, 8, 64, 42};
  const CalibrationSet set = load_calibration(request, load_tokenizer("tinystories-656k"));
  EXPECT_EQ(summary(set, request), "8 samples of 64 tokens from 40 texts");
}

TEST_F(CalibrationFile, TextLinesAreTexts) {
  const auto path = folder_.write("a.txt", "\xef\xbb\xbfone\r\n\n  \n two \nthree\xff");
  EXPECT_EQ(contents(path), (Texts{"one", " two ", "three\xef\xbf\xbd"}));
}

TEST_F(CalibrationFile, RecordsOfJsonLines) {
  const auto path = folder_.write("a.jsonl", "\"one\"\n{\"text\": \"two\", \"id\": 2}\n\n{\"any\": \"three\\n\"}\r\n");
  EXPECT_EQ(contents(path), (Texts{"one", "two", "three\n"}));
}

TEST_F(CalibrationFile, ObjectsKeepTheOrderOfTheFile) {
  EXPECT_EQ(contents(folder_.write("a.json", R"({"z": "first", "a": {"text": "second"}})")),
            (Texts{"first", "second"}));
}

TEST_F(CalibrationFile, ColumnsAndRowsOfOtherPrograms) {
  const Texts expected{"one", "two"};
  for (const char* document :
       {R"({"text": ["one", "two"], "id": [1, 2]})", R"({"text": {"0": "one", "1": "two"}, "id": {"0": 1, "1": 2}})",
        R"({"features": [], "rows": [{"row_idx": 0, "row": {"text": "one"}}, {"row_idx": 1, "row": {"text": "two"}}]})",
        R"({"type": "text_only", "instances": [{"text": "one"}, {"text": "two"}]})",
        R"([{"text": "one", "score": NaN}, {"text": "two", "score": -Infinity}])",
        R"({"0": {"text": "one"}, "1": {"text": "two"}})"})
    EXPECT_EQ(contents(folder_.write("a.json", document)), expected) << document;
  EXPECT_EQ(contents(folder_.write("a.jsonl", "{\"text\": \"one\", \"x\": NaN}\n{\"text\": \"two\"}\n")), expected);
}

TEST_F(CalibrationFile, ErrorsSayWhere) {
  const auto problem = [&](const std::string& name, const std::string& content) {
    const fs::path path = folder_.write(name, content);
    std::string message = message_of([&] { read_texts(path); });
    EXPECT_EQ(message.find(path.string()), 0u) << message;
    return message.substr(path.string().size());
  };
  EXPECT_PRED2(contains, problem("a.jsonl", "\"ok\"\n\n{\"text\": \n"), ":3: is not valid JSON");
  EXPECT_PRED2(contains, problem("a.jsonl", "\"ok\"\n{\"a\": 1, \"b\": 2}\n"), ":2: has no text; a record must be");
  EXPECT_PRED2(contains, problem("a.jsonl", "{\"text\": 5}"), ":1: has no text");
  EXPECT_PRED2(contains, problem("a.jsonl", "\"\xff\""), ":1: is not UTF-8. Convert it: iconv -f LATIN1");
  EXPECT_PRED2(contains, problem("a.json", "[\"a\",\n \"b\""), ": is not valid JSON: ");
  EXPECT_PRED2(contains, problem("a.json", "[\"a\",\n \"b\""), "line 2");
  EXPECT_PRED2(contains, problem("a.json", "[\"a\", [\"b\"]]"), ": record 1: has no text");
  EXPECT_PRED2(contains, problem("a.json", "{\"k\": null}"), ": record k: has no text");
  EXPECT_PRED2(contains, problem("a.json", "17"), ": is neither a list nor an object");
  EXPECT_PRED2(contains, problem("a.json", "[]"), ": holds no text");
  for (const char* name : {"a.txt", "a.json", "a.jsonl"}) {
    EXPECT_PRED2(contains, problem(name, " \n"), ": holds no text; give at least one record");
  }
  EXPECT_PRED2(
      contains, problem("a.csv", "Once upon a time there was\nand so on\n"),
      ": its first line is taken for the columns' names, and is none: put a line with the word text before it");
  EXPECT_PRED2(contains, problem("a.parquet", "x"), ": is Parquet, which is not read here. Convert it");
  EXPECT_PRED2(contains, problem("a.docx", "x"), ": texts must be in a .txt, .json, .jsonl, .csv or .tsv file");
}

TEST_F(CalibrationFile, MissingFileIsNamed) {
  EXPECT_EQ(message_of([] { read_texts("no/such/file.jsonl"); }), "no/such/file.jsonl: cannot be read");
}

TEST_F(CalibrationFile, NoUsableSampleIsAnErrorWithCounts) {
  const auto path = folder_.write("a.txt", "short\na a a a a a a a a a a a a a a a a a a a\n");
  const Tokenizer tokenizer = load_tokenizer("stories260K");
  EXPECT_EQ(message_of([&] {
              load_calibration({{{path}}, 4, 8, 1}, tokenizer);
            }),
            path.string() +
                ": no calibration sample: 0 of 2 usable: 1 too short for seqlen 8, 1 repetitive (a line is a text). "
                "Set calibration.concatenate: true, which packs short texts into samples, give longer texts, or a "
                "smaller seqlen.");
  EXPECT_PRED2(contains, message_of([&] { load_calibration({{{path}}, 0, 8, 1}, tokenizer); }), "at least 1 sample");
}

using Mask = std::vector<uint8_t>;

Mask mask_of(std::vector<int32_t> ids, std::optional<int32_t> pad_id) { return loss_mask(ids, pad_id); }

TEST_F(CalibrationFile, ATokenBeyondTheEmbeddingIsNamed) {
  const Tokenizer tokenizer = load_tokenizer("made-phi");
  const int32_t last = static_cast<int32_t>(tokenizer.vocab_size()) - 1;
  EXPECT_NO_THROW(require_rows({{0, last}}, tokenizer, last + 1, "texts.jsonl"));
  EXPECT_EQ(message_of([&] {
              require_rows({{0}, {1, last, 0}}, tokenizer, last, "texts.jsonl");
            }),
            cat("texts.jsonl: \t\t is ", last, ", the embedding has ", last,
                " rows: resize it (resize_token_embeddings in transformers), or give the tokenizer that the model was "
                "trained with"));
}

TEST(LossMask, LeavesOutPaddingAndTheLastPosition) {
  EXPECT_EQ(mask_of({5, 0, 6, 7, 0, 0}, 0), (Mask{1, 0, 1, 1, 0, 0}));
  EXPECT_EQ(mask_of({5, 6, 7, 7, 7}, 0), (Mask{1, 1, 1, 1, 0}));
}

TEST(LossMask, WithoutPadTokenLeavesOutTheTrailingRun) {
  EXPECT_EQ(mask_of({7, 5, 7, 7, 7}, std::nullopt), (Mask{1, 1, 0, 0, 0}));
  EXPECT_EQ(mask_of({5, 6}, std::nullopt), (Mask{1, 0}));
  EXPECT_EQ(mask_of({7, 7, 7}, std::nullopt), (Mask{0, 0, 0}));
  EXPECT_EQ(mask_of({}, std::nullopt), Mask{});
}

}  // namespace
}  // namespace roundhouse
