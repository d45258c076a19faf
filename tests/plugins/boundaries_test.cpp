// The rules that keep plugins replaceable, read off the sources and the built files: the host names no data type and no
// format, plugins see neither the host nor libtorch, and a plugin exports one symbol.
#include <elf.h>
#include <gtest/gtest.h>
#include <link.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

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
  const auto files = sources({"plugins", "sdk", "kernels"});
  EXPECT_GT(files.size(), 5u);
  EXPECT_EQ(matches(files, include), "");
}

// The dynamic section of a shared object, as far as these tests need it.
class SharedObject {
 public:
  explicit SharedObject(const fs::path& path) : bytes_(read(path)) {
    const auto& header = at<ElfW(Ehdr)>(0);
    for (unsigned i = 0; i < header.e_shnum; ++i) {
      const auto& section = at<ElfW(Shdr)>(header.e_shoff + i * header.e_shentsize);
      const auto& strings = at<ElfW(Shdr)>(header.e_shoff + section.sh_link * header.e_shentsize);
      if (section.sh_type == SHT_DYNSYM) read_symbols(section, strings);
      if (section.sh_type == SHT_DYNAMIC) read_needed(section, strings);
    }
  }

  std::vector<std::string> exported, needed;

 private:
  template <typename T>
  const T& at(uint64_t offset) const {
    return *reinterpret_cast<const T*>(bytes_.data() + offset);
  }
  void read_symbols(const ElfW(Shdr) & section, const ElfW(Shdr) & strings) {
    for (uint64_t at_byte = 0; at_byte < section.sh_size; at_byte += section.sh_entsize) {
      const auto& symbol = at<ElfW(Sym)>(section.sh_offset + at_byte);
      if (symbol.st_shndx != SHN_UNDEF) exported.emplace_back(bytes_.data() + strings.sh_offset + symbol.st_name);
    }
  }
  void read_needed(const ElfW(Shdr) & section, const ElfW(Shdr) & strings) {
    for (uint64_t at_byte = 0; at_byte < section.sh_size; at_byte += section.sh_entsize) {
      const auto& entry = at<ElfW(Dyn)>(section.sh_offset + at_byte);
      if (entry.d_tag == DT_NEEDED) needed.emplace_back(bytes_.data() + strings.sh_offset + entry.d_un.d_val);
    }
  }

  std::string bytes_;
};

void expect_clean(const fs::path& plugin) {
  const SharedObject object(plugin);
  EXPECT_EQ(object.exported, std::vector<std::string>{"rh_get_entry"}) << plugin;
  EXPECT_FALSE(object.needed.empty()) << plugin << ": every plugin needs libc";
  for (const std::string& library : object.needed)
    for (const char* forbidden : {"torch", "c10", "stdc++", "gomp"})
      EXPECT_EQ(library.find(forbidden), std::string::npos) << plugin << " needs " << library;
}

TEST(Boundaries, BuiltPluginsExportOneSymbolAndNeedNoLibtorch) {
  int count = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(ROUNDHOUSE_BUILD) / "lib/roundhouse/plugins")) {
    expect_clean(entry.path());
    ++count;
  }
  EXPECT_GT(count, 0);
}

TEST(Boundaries, FixturesExportOneSymbolAndNeedNoLibtorch) {
  expect_clean(fs::path(FIXTURES) / "librh_fixture_good.so");
  expect_clean(fs::path(FIXTURES) / "librh_fixture_format.so");
}

}  // namespace
