// SPDX-License-Identifier: Apache-2.0
// A temporary folder with fixture plugins, and an environment of its own.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <string>

#include "host/base/error.h"
#include "host/discovery/catalogue.h"

namespace roundhouse {

class Sandbox : public testing::Test {
 protected:
  using Path = std::filesystem::path;

  Sandbox() {
    std::string pattern = testing::TempDir() + "plugins-XXXXXX";
    root_ = ::mkdtemp(pattern.data());
    set("HOME", root_ / "home");
    set("XDG_CACHE_HOME", root_ / "cache");
    set("FIXTURE_TRACE", root_ / "trace");
    for (const char* name :
         {"XDG_DATA_HOME", "ROUNDHOUSE_PLUGIN_PATH", "ROUNDHOUSE_ADD_PLUGIN_PATH", "ROUNDHOUSE_PLUGIN_ALLOW"})
      ::unsetenv(name);
    std::filesystem::create_directories(root_ / "bin");
  }
  ~Sandbox() override { std::filesystem::remove_all(root_); }

  static void set(const char* name, const Path& value) { ::setenv(name, value.c_str(), 1); }

  // ROUNDHOUSE_FIXTURES: a folder with the same plugins, built against other headers.
  static Path fixture(const std::string& name) {
    const char* other = std::getenv("ROUNDHOUSE_FIXTURES");
    return Path(other ? other : FIXTURES) / ("librh_fixture_" + name + ".so");
  }

  // Copies fixtures into a folder under the root.
  Path install(const std::string& folder, std::initializer_list<const char*> names) {
    std::filesystem::create_directories(root_ / folder);
    std::filesystem::permissions(root_ / folder, std::filesystem::perms(0755));  // whatever the umask
    for (const char* name : names) std::filesystem::copy_file(fixture(name), root_ / folder / fixture(name).filename());
    return root_ / folder;
  }

  // Nothing but what the sandbox holds is found.
  DiscoveryOptions options() const {
    DiscoveryOptions options;
    options.executable_dir = root_ / "bin";
    return options;
  }

  Catalogue discover_in(const Path& folder) const {
    DiscoveryOptions options = this->options();
    options.directories = {folder};
    return Catalogue::discover(options);
  }

  // Names of the plugins that were started, in order, one a line, in this process or a scanning one.
  std::string trace() const {
    std::ifstream file(root_ / "trace");
    return {std::istreambuf_iterator<char>(file), {}};
  }

  Path root_;
};

// The message of the Error that `body` throws, or "" when it throws none.
template <typename Body>
std::string error_of(Body&& body) {
  try {
    body();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

// For EXPECT_PRED_FORMAT2: `part` occurs in `text`.
inline testing::AssertionResult Contains(const char*, const char*, const std::string& text, const std::string& part) {
  if (text.find(part) != std::string::npos) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "\"" << part << "\" is not in \"" << text << "\"";
}
#define EXPECT_CONTAINS(text, part) EXPECT_PRED_FORMAT2(Contains, text, part)

}  // namespace roundhouse
