// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "host/base/error.h"
#include "host/base/files.h"
#include "host/checkpoint/gguf_file.h"
#include "tests/temp_folder.h"

namespace roundhouse {
namespace {

class Gguf : public testing::Test {
 protected:
  void SetUp() override {
    const Tensor matrix(DType::kF32, {2, 3}), one(DType::kF32, {1});
    for (int i = 0; i < 6; ++i) matrix.as<float>()[i] = static_cast<float>(i) / 4;
    one.as<float>()[0] = 7;
    write_gguf_file(path_, {{"general.type", "test"}, {"numbers", 3u}, {"names", {"a", "bc"}}},
                    {{"matrix", matrix}, {"one", one}});
  }
  GgufFile open() const { return GgufFile(std::make_shared<const MappedFile>(path_)); }

  TempFolder folder_;
  std::filesystem::path path_ = folder_.path() / "file.gguf";
};

TEST_F(Gguf, WhatIsWrittenIsReadAgain) {
  const GgufFile file = open();
  EXPECT_EQ(file.metadata(), (nlohmann::json{{"general.type", "test"}, {"numbers", 3}, {"names", {"a", "bc"}}}));
  ASSERT_EQ(file.tensors().size(), 2u);
  EXPECT_EQ(file.tensors()[0].name, "matrix");
  EXPECT_EQ(file.tensors()[0].shape, (std::vector<int64_t>{2, 3}));
  const Tensor matrix = file.load_f32(file.tensors()[0]);
  for (int i = 0; i < 6; ++i) EXPECT_EQ(matrix.as<float>()[i], static_cast<float>(i) / 4);
  EXPECT_EQ(file.load_f32(file.tensors()[1]).as<float>()[0], 7);
}

// Every cut and every changed byte of the tables gives an error or values, never a crash.
TEST_F(Gguf, DamagedFilesAreErrors) {
  const std::string whole = read_file(path_);
  const auto read_all = [&](const std::string& bytes) {
    std::ofstream(path_, std::ios::binary) << bytes;
    const GgufFile file = open();
    for (const GgufFile::Entry& entry : file.tensors()) file.load_f32(entry);
  };
  for (size_t size = 1; size + 32 < whole.size(); ++size) EXPECT_THROW(read_all(whole.substr(0, size)), Error) << size;
  for (size_t at = 0; at < whole.size(); ++at) {
    for (const char byte : {'\x00', '\x7f', '\xff'}) {
      std::string bytes = whole;
      bytes[at] = byte;
      try {
        read_all(bytes);
      } catch (const Error&) {  // said so
      }
    }
  }
}

}  // namespace
}  // namespace roundhouse
