// Tokenizers against the ids that the `tokenizers` package gave (make_tokenizer_cases.py recorded them).
#include "host/text/tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "host/base/error.h"

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

// The folders with a tokenizer.json: the repository's, and those of a folder of one's own.
std::vector<fs::path> tokenizer_folders() {
  std::vector<fs::path> parents = {kTokenizers};
  if (const char* more = std::getenv("ROUNDHOUSE_TOKENIZER_CASES")) parents.emplace_back(more);
  std::vector<fs::path> folders;
  for (const fs::path& parent : parents) {
    for (const auto& entry : fs::directory_iterator(parent)) {
      if (fs::exists(entry.path() / "tokenizer.json")) folders.push_back(entry.path());
    }
  }
  std::sort(folders.begin(), folders.end());
  return folders;
}

std::string case_name(const testing::TestParamInfo<fs::path>& info) {
  std::string name = cat(info.param.filename().string(), info.param.parent_path() == kTokenizers ? "" : "_of_environment");
  std::replace_if(name.begin(), name.end(), [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); }, '_');
  return name;
}

class RecordedTokenizer : public testing::TestWithParam<fs::path> {};
INSTANTIATE_TEST_SUITE_P(Folder, RecordedTokenizer, testing::ValuesIn(tokenizer_folders()), case_name);

TEST_P(RecordedTokenizer, GivesThePackagesIds) {
  const Tokenizer tokenizer = Tokenizer::load(GetParam());
  const auto texts = texts_of(GetParam().parent_path());
  const auto expected = nlohmann::json::parse(read(GetParam() / "expected.json"));
  ASSERT_EQ(expected.size(), texts.size());
  for (const auto& [name, text] : texts) {
    SCOPED_TRACE(name);
    const auto& record = expected.at(name);
    const std::vector<int32_t> plain = tokenizer.encode(text, false);
    EXPECT_EQ(difference(plain, record.at("plain")), "");
    EXPECT_EQ(difference(tokenizer.encode(text), record.at("ids")), "");
    EXPECT_TRUE(tokenizer.decode(plain, false) == record.at("decoded").get<std::string>())
        << tokenizer.decode(plain, false).substr(0, 400) << "\n---\n"
        << record.at("decoded").get<std::string>().substr(0, 400);
  }
}

}  // namespace
}  // namespace roundhouse
