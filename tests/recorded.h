// SPDX-License-Identifier: Apache-2.0
// Texts that are compared with files. With ROUNDHOUSE_RECORD in the environment the files are written instead: look at
// the difference before it is committed.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace roundhouse {

inline void expect_recorded(const std::string& text, const std::filesystem::path& file) {
  if (std::getenv("ROUNDHOUSE_RECORD")) {
    std::ofstream(file, std::ios::binary) << text;
    return;
  }
  std::ifstream in(file, std::ios::binary);
  EXPECT_EQ(text, std::string(std::istreambuf_iterator<char>(in), {})) << file;
}

}  // namespace roundhouse
