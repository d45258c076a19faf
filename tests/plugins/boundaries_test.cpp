// SPDX-License-Identifier: Apache-2.0
// The rules that keep plugins replaceable, read off the sources: plugins see neither the host nor
// libtorch, and the folders of the host have their floors. That the host names no plugin: tests/cli/words_test.cpp.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;

// Sources under the given folders of the project.
std::vector<fs::path> sources(std::initializer_list<const char*> folders) {
  std::vector<fs::path> files;
  for (const char* folder : folders) {
    for (const auto& entry : fs::recursive_directory_iterator(fs::path(ROUNDHOUSE_SOURCE) / folder)) {
      const std::string suffix = entry.path().extension();
      for (const char* known : {".c", ".cpp", ".cu", ".cuh", ".h", ".hpp"})
        if (suffix == known) files.push_back(entry.path());
    }
  }
  return files;
}

// "file:line: text" of each line in which `pattern` is found.
std::string matches(const std::vector<fs::path>& files, const std::regex& pattern) {
  std::string found;
  for (const fs::path& path : files) {
    std::ifstream file(path);
    int number = 0;
    for (std::string line; std::getline(file, line);) {
      ++number;
      if (std::regex_search(line, pattern)) found += path.string() + ":" + std::to_string(number) + ": " + line + "\n";
    }
  }
  return found;
}

TEST(Boundaries, PluginsAndSdkIncludeNeitherHostNorLibtorch) {
  const std::regex include(R"(#\s*include\s*[<"]((\.\./)*host/|torch/|ATen/|c10/))");
  EXPECT_TRUE(std::regex_search(R"(# include "../../host/base/error.h")", include));
  const auto files = sources({"plugins", "sdk/include", "sdk/examples", "sdk/templates", "kernels"});
  EXPECT_GT(files.size(), 5u);
  EXPECT_EQ(matches(files, include), "");
}

// One function asks what the processor can do, and answers elsewhere than on x86, too.
TEST(Boundaries, TheHostAsksOfX86InOnePlace) {
  const std::regex builtin(R"(__builtin_(cpu_|ia32_)|intrin\.h|cpuid)");
  std::vector<fs::path> files = sources({"host", "validator"});
  const auto asks = std::partition(files.begin(), files.end(), [](const fs::path& file) {
    return fs::relative(file, ROUNDHOUSE_SOURCE) != "host/base/cpu.h";
  });
  EXPECT_NE(matches({asks, files.end()}, builtin), "");
  EXPECT_EQ(matches({files.begin(), asks}, builtin), "");
}

// Floors of the host: a folder includes itself and those listed here.
TEST(Boundaries, EachFolderOfTheHostIncludesThoseBelowItAlone) {
  const std::map<std::string, std::set<std::string>> below = {
      {"base", {}},
      {"ranks", {"base"}},
      {"yaml", {"base"}},
      {"checkpoint", {"base"}},
      {"jinja", {"base"}},
      {"text", {"base", "jinja"}},
      {"report", {"base"}},
      {"abi", {"base", "checkpoint"}},
      {"discovery", {"base", "checkpoint", "abi"}},
      {"recipe", {"base", "yaml", "checkpoint"}},
      {"model", {"base", "yaml"}},
      {"plan", {"base", "checkpoint", "report", "abi", "discovery", "recipe", "model"}},
      {"export", {"base", "checkpoint", "text", "abi", "discovery", "recipe", "model", "plan"}},
      {"tuning", {"base", "ranks", "checkpoint", "text", "abi", "discovery", "recipe", "model", "plan", "export"}},
      {"run",
       {"base", "ranks", "yaml", "checkpoint", "text", "report", "abi", "discovery", "recipe", "model", "plan",
        "tuning", "export"}},
  };
  const std::regex include(R"re(#\s*include "host/([a-z_]+)/)re");
  for (const auto& [folder, allowed] : below) {
    const auto files = sources({("host/" + folder).c_str()});
    EXPECT_GT(files.size(), 1u) << folder;
    for (const fs::path& path : files) {
      std::ifstream file(path);
      for (std::string line; std::getline(file, line);) {
        std::smatch match;
        if (std::regex_search(line, match, include)) {
          EXPECT_TRUE(match[1] == folder || allowed.contains(match[1])) << path.string() << ": " << line;
        }
      }
    }
  }
}

// What a file includes of the project, as paths in it.
std::vector<std::string> included(const fs::path& path) {
  static const std::regex include(R"re(^\s*#\s*include "((host|sdk|kernels|validator)/[^"]+)")re");
  std::vector<std::string> files;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);)
    if (std::smatch match; std::regex_search(line, match, include)) files.push_back(match[1]);
  return files;
}

// How a file gets libtorch, "a.cpp > b.h > c.h", or "".
std::string way_to_libtorch(const std::string& file, std::map<std::string, std::string>& known) {
  static const std::regex libtorch(R"(^\s*#\s*include\s*[<"](torch/|ATen/|c10/))");
  const auto [found, first] = known.emplace(file, "");
  if (!first) return found->second;
  const fs::path path = fs::path(ROUNDHOUSE_SOURCE) / file;
  std::string way = matches({path}, libtorch).empty() ? "" : file;
  for (const std::string& header : included(path))
    if (const std::string rest = way_to_libtorch(header, known); way.empty() && !rest.empty())
      way = file + " > " + rest;
  return known[file] = way;
}

// The validator, too, is a program without libtorch.
TEST(Boundaries, LibtorchIsSeenByModelAndTuningAlone) {
  std::map<std::string, std::string> known;
  EXPECT_EQ(way_to_libtorch("host/tuning/block_loop.h", known), "host/tuning/block_loop.h");
  EXPECT_EQ(way_to_libtorch("host/tuning/input_quantization.cpp", known),
            "host/tuning/input_quantization.cpp > host/tuning/activation_quantizer.h");
  int seen = 0;
  for (const fs::path& path : sources({"host", "validator"})) {
    const std::string file = fs::relative(path, ROUNDHOUSE_SOURCE);
    if (file.starts_with("host/model/") || file.starts_with("host/tuning/")) continue;
    EXPECT_EQ(way_to_libtorch(file, known), "");
    ++seen;
  }
  EXPECT_GT(seen, 100);
}

// docs/environment.md has those that the program reads, and no other ROUNDHOUSE_*.
TEST(Boundaries, EnvironmentVariablesAreDocumented) {
  const auto texts = [](const std::vector<fs::path>& files, const std::regex& pattern) {
    std::set<std::string> found;
    for (const fs::path& path : files) {
      std::ifstream file(path);
      for (std::string line; std::getline(file, line);)
        for (std::sregex_iterator match(line.begin(), line.end(), pattern), end; match != end; ++match)
          found.insert((*match)[(*match)[1].matched ? 1 : 2].str());
    }
    return found;
  };
  const std::set<std::string> read =
      texts(sources({"host", "kernels", "plugins", "validator"}),
            std::regex(R"((?:env|environment_variable|xdg_folder)\("([A-Z_]+)\"|"(ROUNDHOUSE_[A-Z_]*[A-Z]))"));
  const std::set<std::string> documented =
      texts({fs::path(ROUNDHOUSE_SOURCE) / "docs/environment.md"}, std::regex(R"(`([A-Z_]+)`)"));
  EXPECT_TRUE(read.contains("ROUNDHOUSE_TORCH") && read.contains("XDG_DATA_HOME"));
  for (const std::string& name : read) EXPECT_TRUE(documented.contains(name)) << name;
  for (const std::string& name : documented)
    EXPECT_TRUE(read.contains(name) || !name.starts_with("ROUNDHOUSE_")) << name;
}

// As docs/plugins.md says: a setuid program hears nothing of them.
TEST(Boundaries, TheHostsOwnEnvironmentVariablesAreReadInOnePlace) {
  EXPECT_EQ(matches(sources({"host"}), std::regex(R"(\bgetenv\("ROUNDHOUSE_)")), "");
}

// A header and its source are one part.
std::string part_of(const fs::path& file) { return fs::path(file).replace_extension().string(); }

// A circle to which `part` leads, "a > b > a", or "".
std::string circle(const std::string& part, const std::map<std::string, std::set<std::string>>& parts,
                   std::vector<std::string>& way, std::set<std::string>& done) {
  if (const auto start = std::find(way.begin(), way.end(), part); start != way.end()) {
    std::string text;
    for (auto step = start; step != way.end(); ++step) text += *step + " > ";
    return text + part;
  }
  if (!done.insert(part).second) return "";
  way.push_back(part);
  const auto found = parts.find(part);
  if (found != parts.end())
    for (const std::string& next : found->second)
      if (std::string text = circle(next, parts, way, done); !text.empty()) return text;
  way.pop_back();
  return "";
}

TEST(Boundaries, NoPartsOfTheHostIncludeEachOther) {
  std::map<std::string, std::set<std::string>> parts;
  for (const fs::path& path : sources({"host"})) {
    const std::string part = part_of(fs::relative(path, ROUNDHOUSE_SOURCE));
    for (const std::string& header : included(path))
      if (part_of(header) != part) parts[part].insert(part_of(header));
  }
  std::vector<std::string> way;
  std::set<std::string> done;
  EXPECT_EQ(circle("a", {{"a", {"b", "c"}}, {"c", {"d"}}, {"d", {"c"}}}, way, done), "c > d > c");
  EXPECT_GT(parts.size(), 50u);
  way.clear();
  for (const auto& [part, others] : parts) EXPECT_EQ(circle(part, parts, way, done), "");
}

}  // namespace
