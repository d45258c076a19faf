// The rules that keep plugins replaceable, read off the sources: the host names no data type and no format, and plugins see
// neither the host nor libtorch.
#include <gtest/gtest.h>

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

TEST(Boundaries, HostNamesNoDataTypeAndNoFormat) {
  const std::regex names(R"re("(int|fake|(int_sym|int_asym|rtn_int|mx_fp|mx_int|nv_fp|nvfp|fp8|block_fp8|w4fp8)re"
                         R"re(|auto_round|auto_gptq|auto_awq|gguf|llm_compressor)[a-z0-9_]*)")re");
  EXPECT_TRUE(std::regex_search(R"(if (id == "int_sym"))", names));
  EXPECT_TRUE(std::regex_search(R"({"gguf_q4", 1})", names));
  const auto host = sources({"host"});
  EXPECT_GT(host.size(), 20u);
  EXPECT_EQ(matches(host, names), "");
}

TEST(Boundaries, PluginsAndSdkIncludeNeitherHostNorLibtorch) {
  const std::regex include(R"(#\s*include\s*[<"]((\.\./)*host/|torch/|ATen/|c10/))");
  EXPECT_TRUE(std::regex_search(R"(# include "../../host/base/error.h")", include));
  const auto files = sources({"plugins", "sdk/include", "sdk/examples", "sdk/templates", "kernels"});
  EXPECT_GT(files.size(), 5u);
  EXPECT_EQ(matches(files, include), "");
}

// Floors of the host: a folder includes itself and those listed here.
TEST(Boundaries, EachFolderOfTheHostIncludesThoseBelowItAlone) {
  const std::map<std::string, std::set<std::string>> below = {
      {"base", {}},
      {"yaml", {"base"}},
      {"checkpoint", {"base"}},
      {"text", {"base"}},
      {"report", {"base"}},
      {"abi", {"base", "checkpoint"}},
      {"discovery", {"base", "checkpoint", "abi"}},
      {"recipe", {"base", "yaml"}},
      {"model", {"base", "yaml"}},
      {"plan", {"base", "checkpoint", "report", "abi", "discovery", "recipe", "model"}},
      {"tuning", {"base", "checkpoint", "text", "abi", "discovery", "recipe", "model", "plan"}},
      {"export", {"base", "checkpoint", "abi", "discovery", "recipe", "model", "plan", "tuning"}},
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

// The validator is a program, shipped as a binary. It tries plugins with the host's own files, but needs no libtorch.
TEST(Boundaries, TheValidatorIncludesNoLibtorch) {
  const auto files = sources({"validator", "host/base", "host/checkpoint", "host/abi"});
  EXPECT_GT(files.size(), 20u);
  EXPECT_EQ(matches(files, std::regex(R"(#\s*include\s*[<"](torch/|ATen/|c10/))")), "");
}

}  // namespace
