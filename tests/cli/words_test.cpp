// SPDX-License-Identifier: Apache-2.0
// The host names no data type, format or encoding of a plugin: no such word stands in its strings, identifiers and file
// names. The words are asked of the built plugins.
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <vector>

#include "tests/cli/program.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Words that the host may have all the same.
struct Exempt {
  std::string word, file;  // file: a path in the project, or a part of one
  bool in_strings;
  const char* why;
};
const std::vector<Exempt> kExempt = {
    {"int", "", false, "C++'s type, outside strings"},
    {"int", "host/jinja/", true, "the type of Python and the filter of Jinja2"},
    {"gguf", "host/checkpoint/gguf_file", true, "the container of imatrix files"},
    {"gguf", "host/checkpoint/imatrix_file", true, "the container of imatrix files"},
    {"gguf", "host/checkpoint/CMakeLists.txt", true, "names gguf_file"},
};

// "_auto_round_" of "auto_round", "AutoRound" and "auto-round"; other characters end a word too: "_mx_1_" of "mx/1".
std::string words_of(const std::string& text) {
  std::string words = "_";
  for (size_t i = 0; i < text.size(); ++i) {
    const auto is = [&](size_t at, int (*kind)(int)) {
      return at < text.size() && kind(static_cast<unsigned char>(text[at]));
    };
    if (!is(i, std::isalnum)) {
      if (words.back() != '_') words += text[i] == '_' || text[i] == '-' ? "_" : "_/_";
      continue;
    }
    const bool starts = is(i, std::isupper) && i > 0;
    const bool hump = starts && (is(i - 1, std::islower) || (is(i - 1, std::isalnum) && is(i + 1, std::islower)));
    if (hump && words.back() != '_') words += '_';
    words += static_cast<char>(std::tolower(text[i]));
  }
  if (words.back() != '_') words += '_';
  return words;
}

struct Source {
  std::string strings, code;  // without comments
};

// hash_comments: as CMake has them.
Source split(const std::string& text, bool hash_comments = false) {
  Source out;
  for (size_t i = 0; i < text.size();) {
    if (text.compare(i, 2, "//") == 0 || (hash_comments && text[i] == '#')) {
      i = std::min(text.find('\n', i), text.size());
    } else if (text.compare(i, 2, "/*") == 0) {
      i = std::min(text.find("*/", i), text.size() - 2) + 2;
    } else if (text.compare(i, 2, "R\"") == 0) {
      const size_t open = text.find('(', i);
      const size_t close = text.find(")" + text.substr(i + 2, open - i - 2) + "\"", open);
      out.strings += text.substr(open + 1, close - open - 1) + "\n";
      i = text.find('"', close) + 1;
    } else if (text[i] == '"') {
      size_t end = i + 1;
      while (end < text.size() && text[end] != '"') end += text[end] == '\\' ? 2 : 1;
      out.strings += text.substr(i + 1, end - i - 1) + "\n";
      i = end + 1;
    } else if (text[i] == '\'' && text.compare(i + 1, 1, "\\") == 0) {
      i += 4;
    } else if (text[i] == '\'' && text.compare(i + 2, 1, "'") == 0) {
      i += 3;
    } else {
      out.code += text[i++];
    }
  }
  return out;
}

// What the loaded plugins are called, and their encodings with and without versions.
std::set<std::string> names_of_plugins(const json& dtypes, const json& formats) {
  std::set<std::string> names;
  const auto add_encoding = [&](const std::string& id) { names.insert({id, id.substr(0, id.find('/'))}); };
  for (const json& dtype : dtypes) {
    names.insert(dtype["id"]);
    add_encoding(dtype["encoding"]);
    for (const json& alias : dtype["aliases"]) names.insert(alias["name"]);
  }
  for (const json& format : formats) {
    names.insert(format["id"]);
    for (const json& encoding : format["encodings"])
      if (encoding != "*") add_encoding(encoding);
    for (const json& alias : format["aliases"]) names.insert(alias["name"]);
  }
  return names;
}

std::set<std::string> found_words(const std::set<std::string>& names, const std::string& text) {
  const std::string words = words_of(text);
  std::set<std::string> found;
  for (const std::string& name : names)
    if (words.find(words_of(name)) != std::string::npos) found.insert(name);
  return found;
}

TEST(Words, AreFoundInEverySpelling) {
  const std::set<std::string> names{"auto_round", "mx/1", "int", "fp8"};
  using Found = std::set<std::string>;
  EXPECT_EQ(found_words(names, "take_auto_round(x)"), Found{"auto_round"});
  EXPECT_EQ(found_words(names, "class AutoRoundFormat"), Found{"auto_round"});
  EXPECT_EQ(found_words(names, "of auto-round's"), Found{"auto_round"});
  EXPECT_EQ(found_words(names, "auto round automatic_rounding"), Found{});
  EXPECT_EQ(found_words(names, "id == mx/1"), Found{"mx/1"});
  EXPECT_EQ(found_words(names, "kInt, print, interval, int8_t"), Found{"int"});
  EXPECT_EQ(found_words(names, "FP8Block to_fp8 mxfp8"), Found{"fp8"});
  const Source source = split("a(\"b \\\" c\"); // d\nx = '\"'; /* e \" */ f(R\"re(g\"h)re\") 1'000");
  EXPECT_EQ(source.strings, "b \\\" c\ng\"h\n");
  EXPECT_EQ(source.code, "a(); \nx = ;  f() 1'000");
}

TEST(Words, TheHostHasNoneOfThePlugins) {
  const std::string alone =
      "XDG_CACHE_HOME=/nonexistent XDG_DATA_HOME=/nonexistent ROUNDHOUSE_PLUGIN_PATH= " + kProgram;
  const auto ask = [&](const std::string& command) {
    const std::string output = run_command(alone + " --no-cache " + command + " --json 2>/dev/null").output;
    return json::parse(output.substr(output.find('[')));
  };
  const json dtypes = ask("dtypes"), formats = ask("formats");
  EXPECT_GE(dtypes.size(), 6u);
  EXPECT_GE(formats.size(), 7u);
  const std::set<std::string> names = names_of_plugins(dtypes, formats);
  EXPECT_GT(names.size(), 80u);

  int files = 0;
  std::set<std::string> used;
  for (const auto& entry : fs::recursive_directory_iterator(fs::path(ROUNDHOUSE_SOURCE) / "host")) {
    if (!entry.is_regular_file()) continue;
    ++files;
    const std::string file = fs::relative(entry.path(), ROUNDHOUSE_SOURCE);
    std::ifstream stream(entry.path(), std::ios::binary);
    const std::string extension = entry.path().extension();
    const Source source =
        split({std::istreambuf_iterator<char>(stream), {}}, extension == ".txt" || extension == ".cmake");
    const auto check = [&](const std::string& text, bool strings, const char* where) {
      for (const std::string& word : found_words(names, text)) {
        const auto exempt = std::find_if(kExempt.begin(), kExempt.end(), [&](const Exempt& e) {
          return e.word == word && file.starts_with(e.file) && (e.in_strings || !strings);
        });
        if (exempt == kExempt.end())
          ADD_FAILURE() << file << " has \"" << word << "\" in its " << where;
        else
          used.insert(exempt->word + exempt->file);
      }
    };
    check(file, false, "name");
    check(source.code, false, "code");
    check(source.strings, true, "strings");
  }
  EXPECT_GT(files, 150);
  for (const Exempt& exempt : kExempt) EXPECT_TRUE(used.contains(exempt.word + exempt.file)) << exempt.why;
}

}  // namespace
}  // namespace roundhouse
