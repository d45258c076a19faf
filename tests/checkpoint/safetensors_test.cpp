// SPDX-License-Identifier: Apache-2.0
#include "host/checkpoint/safetensors.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <limits>

#include "tests/checkpoint/support.h"

namespace roundhouse {
namespace {

const char* const kAllTypes = TEST_DATA "/checkpoint/all_types.safetensors";

TEST(Safetensors, ReadsEveryElementType) {
  SafetensorsFolder file(kAllTypes);
  const std::vector<std::string> names{"i64", "f64", "empty",   "f32",     "i32",     "bf16",
                                       "f16", "i16", "f8_e8m0", "f8_e4m3", "f8_e5m2", "a \"quoted\"\nünicöde name",
                                       "i8",  "u8",  "bool"};
  auto sorted = [](std::vector<std::string> v) { return std::set<std::string>(v.begin(), v.end()); };
  EXPECT_EQ(sorted(file.names()), sorted(names));
  EXPECT_EQ(file.names()[0], "i64");  // in the order of the data
  EXPECT_EQ(file.names()[1], "f64");
  EXPECT_EQ(file.names().back(), "bool");
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"format", "pt"}}));
  EXPECT_EQ(file.location(), kAllTypes);

  EXPECT_EQ(values<int64_t>(file.load("i64")), (std::vector<int64_t>{INT64_MIN, INT64_MAX}));
  EXPECT_EQ(values<double>(file.load("f64")), std::vector<double>{0.1});
  EXPECT_TRUE(file.load("f64").shape().empty());
  const float inf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(values<float>(file.load("f32")), (std::vector<float>{1.5f, -2.25f, 3e38f, 0.0f, -0.0f, inf}));
  EXPECT_TRUE(std::signbit(file.load("f32").as<float>()[4]));
  EXPECT_EQ(file.load("f32").shape(), (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(values<int32_t>(file.load("i32")), (std::vector<int32_t>{INT32_MIN, INT32_MAX}));
  EXPECT_EQ(values<uint16_t>(file.load("bf16")), (std::vector<uint16_t>{0x3f80, 0xc040}));
  EXPECT_EQ(values<uint16_t>(file.load("f16")), (std::vector<uint16_t>{0x3c00, 0x7bff}));
  EXPECT_EQ(values<int16_t>(file.load("i16")), std::vector<int16_t>{INT16_MIN});
  EXPECT_EQ(values<uint8_t>(file.load("f8_e8m0")), std::vector<uint8_t>{0x80});
  EXPECT_EQ(values<uint8_t>(file.load("f8_e4m3")), (std::vector<uint8_t>{0x7e, 0xb8}));
  EXPECT_EQ(values<uint8_t>(file.load("f8_e5m2")), std::vector<uint8_t>{0x7b});
  EXPECT_EQ(values<int8_t>(file.load("i8")), (std::vector<int8_t>{-128, 127}));
  EXPECT_EQ(values<uint8_t>(file.load("u8")), (std::vector<uint8_t>{1, 2, 255}));
  EXPECT_EQ(values<uint8_t>(file.load("bool")), (std::vector<uint8_t>{1, 0, 1}));
  EXPECT_EQ(file.load("bool").dtype(), DType::kBool);
  EXPECT_EQ(file.load("empty").shape(), (std::vector<int64_t>{0, 4}));
  EXPECT_TRUE(file.load("empty").defined());
  EXPECT_EQ(values<uint8_t>(file.load("a \"quoted\"\nünicöde name")), std::vector<uint8_t>{7});
}

TEST(Safetensors, InfoTellsTypeAndShapeWithoutTheData) {
  SafetensorsFolder file(kAllTypes);
  EXPECT_EQ(file.info("f32").dtype, DType::kF32);
  EXPECT_EQ(file.info("f32").shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(file.info("f32").file, kAllTypes);
  EXPECT_TRUE(file.contains("f32"));
  EXPECT_FALSE(file.contains("f33"));
  const std::string message = error_of([&] { file.load("f33"); });
  EXPECT_TRUE(contains(message, "tensor f33 is not in "));
  EXPECT_TRUE(contains(message, kAllTypes));
}

TEST(Safetensors, ATensorOutlivesTheFolderObject) {
  Tensor tensor;
  {
    SafetensorsFolder file(kAllTypes);
    Tensor other = file.load("i64");
    tensor = file.load("i64");
  }  // `other` gives its pages back: the file's, not the tensor's
  EXPECT_EQ(values<int64_t>(tensor), (std::vector<int64_t>{INT64_MIN, INT64_MAX}));
}

TEST(Safetensors, LoadsBorrowTheSameMapping) {
  SafetensorsFolder file(kAllTypes);
  EXPECT_EQ(file.load("i64").data(), file.load("i64").data());
}

TEST(Safetensors, UnalignedDataAreCopied) {
  TempFolder folder;
  // A header without padding puts the float at an odd address.
  std::string header = R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  if (header.size() % 2 == 0) header += ' ';
  write_file(folder / "model.safetensors", safetensors(header, std::string("\0\0\xc0\x3f", 4)));
  const Tensor x = SafetensorsFolder(folder.path()).load("x");
  EXPECT_EQ(reinterpret_cast<uintptr_t>(x.data()) % alignof(float), 0u);
  EXPECT_EQ(values<float>(x), std::vector<float>{1.5f});
}

std::string one_byte(const std::string& name, char value, const std::string& metadata = "") {
  return safetensors("{" + metadata + "\"" + name + R"(":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                     std::string(1, value));
}

TEST(Safetensors, AliasesFollowTheMetadata) {
  TempFolder folder;
  const std::string metadata =
      R"("__metadata__":{"lm_head.weight":"embed.weight","format":"pt","dangling":"nothing"},)";
  write_file(folder / "model.safetensors", one_byte("embed.weight", 5, metadata));
  SafetensorsFolder file(folder.path());
  EXPECT_EQ(file.names(), std::vector<std::string>{"embed.weight"});
  EXPECT_TRUE(file.contains("lm_head.weight"));
  EXPECT_EQ(values<uint8_t>(file.load("lm_head.weight")), std::vector<uint8_t>{5});
  EXPECT_EQ(file.info("lm_head.weight").dtype, DType::kU8);
  EXPECT_FALSE(file.contains("format"));
  EXPECT_FALSE(file.contains("dangling"));
}

// As transformers, whatever the index says of the tensor.
TEST(Safetensors, ShardsComeInTheirOrderAndTheLastWithATensorCounts) {
  TempFolder folder;
  write_file(folder / "model-00002-of-00002.safetensors",
             safetensors(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                         R"("z":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},)"
                         R"("s":{"dtype":"U8","shape":[1,1],"data_offsets":[2,3]}})",
                         "\x02\x09\x05"));
  write_file(folder / "model-00001-of-00002.safetensors",
             safetensors(R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},)"
                         R"("z":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                         R"("a":{"dtype":"U8","shape":[1],"data_offsets":[2,3]},)"
                         R"("s":{"dtype":"U8","shape":[1],"data_offsets":[3,4]}})",
                         "\x09\x01\x08\x05"));
  write_file(folder / "unrelated.safetensors", "not read");
  write_file(folder / "model.safetensors.index.json", R"({"metadata":{"total_size":3},"weight_map":{
    "a":"model-00001-of-00002.safetensors","b":"model-00001-of-00002.safetensors","z":"model-00002-of-00002.safetensors"}})");
  SafetensorsFolder file(folder.path());
  EXPECT_EQ(file.names(), (std::vector<std::string>{"b", "a", "z", "s"}));
  EXPECT_EQ(values<uint8_t>(file.load("a")), std::vector<uint8_t>{2});  // not the 8 of the other shard
  EXPECT_EQ(values<uint8_t>(file.load("b")), std::vector<uint8_t>{1});
  EXPECT_EQ(values<uint8_t>(file.load("z")), std::vector<uint8_t>{9});
  std::vector<std::string> differing;
  for (const auto& [tensor, other, kept] : file.differing_copies())
    differing.push_back(cat(tensor, " ", other.string(), " ", kept.string()));
  const std::string files = " model-00001-of-00002.safetensors model-00002-of-00002.safetensors";
  EXPECT_EQ(differing, (std::vector<std::string>{"a" + files, "s" + files}));  // z is the same in both, s in its bytes
}

// As transformers: the index names the files, the headers their tensors.
TEST(Safetensors, AnIndexMayBeIncompleteOrWrong) {
  TempFolder folder;
  write_file(folder / "1.safetensors", one_byte("left out", 1));
  write_file(folder / "2.safetensors", one_byte("misplaced", 2));
  write_file(folder / "3.safetensors", one_byte("right", 3));
  write_file(folder / "model.safetensors.index.json",
             R"({"weight_map":{"misplaced":"1.safetensors","right":"3.safetensors","also right":"2.safetensors"}})");
  EXPECT_EQ(error_of([&] { SafetensorsFolder{folder.path()}; }),
            (folder / "model.safetensors.index.json").string() +
                " places tensor also right in 2.safetensors, but it is not there, nor in its other files. The index "
                "and the files do not belong together: download the checkpoint again.");
  write_file(folder / "2.safetensors", safetensors(R"({"misplaced":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                                   R"("also right":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                                                   "\x02\x04"));
  SafetensorsFolder file(folder.path());
  EXPECT_EQ(file.names(), (std::vector<std::string>{"left out", "misplaced", "also right", "right"}));
  EXPECT_EQ(values<uint8_t>(file.load("misplaced")), std::vector<uint8_t>{2});
  EXPECT_EQ(file.files().size(), 3u);
}

TEST(Safetensors, TensorsAreRenamedLeftOutAndAdded) {
  TempFolder folder;
  write_file(folder / "model.safetensors",
             safetensors(R"({"__metadata__":{"shared":"a"},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                         R"("b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                         "\x01\x02"));
  SafetensorsFolder file(folder.path());
  file.rename([](const std::string& name) { return name == "b" ? "" : "model." + name; });
  file.add("zero", Tensor(DType::kF16, {2}));
  EXPECT_EQ(file.names(), (std::vector<std::string>{"model.a", "zero"}));
  EXPECT_FALSE(file.contains("b"));
  EXPECT_EQ(values<uint8_t>(file.load("model.shared")), std::vector<uint8_t>{1});
  EXPECT_EQ(values<uint16_t>(file.load("zero")), (std::vector<uint16_t>{0, 0}));
  EXPECT_EQ(file.info("zero").dtype, DType::kF16);
  file.release_pages();
}

TEST(Safetensors, ElementsBelowAByteArePackedWithoutGaps) {
  TempFolder folder;
  write_file(folder / "model.safetensors", safetensors(R"({"f4":{"dtype":"F4","shape":[3,2],"data_offsets":[0,3]},)"
                                                       R"("f6":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[3,6]}})",
                                                       "\x01\x02\x03\x04\x05\x06"));
  SafetensorsFolder file(folder.path());
  const Tensor f4 = file.load("f4"), f6 = file.load("f6");
  EXPECT_EQ(f4.shape(), (std::vector<int64_t>{3, 2}));
  EXPECT_EQ(f4.bytes(), 3u);
  EXPECT_EQ(f4.view().dtype.bits, 4);
  EXPECT_EQ(std::string(f6.as<char>(), f6.bytes()), "\x04\x05\x06");
  write_file(folder / "model.safetensors",
             safetensors(R"({"f4":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}})", "\x01\x02"));
  EXPECT_EQ(error_of([&] { SafetensorsFolder{folder.path()}; }),
            (folder / "model.safetensors").string() +
                ": tensor f4: F4 [3] does not fill whole bytes, as safetensors wants it");
}

TEST(Safetensors, ASingleFileMayHaveAnyName) {
  TempFolder folder;
  write_file(folder / "weights.safetensors", one_byte("a", 2));
  write_file(folder / "training_args.bin", "ignored");
  EXPECT_EQ(SafetensorsFolder(folder.path()).names(), std::vector<std::string>{"a"});
  EXPECT_EQ(SafetensorsFolder(folder / "weights.safetensors").names(), std::vector<std::string>{"a"});
}

// A parser callback of nlohmann's JSON took quadratic time: minutes here, and hours for a large mixture of experts.
TEST(Safetensors, ManyTensorsOpenInLinearTime) {
  TempFolder folder;
  std::string header = "{";
  for (int i = 0; i < 100'000; ++i)
    header += cat(i ? "," : "", "\"layers.", i, R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})");
  write_file(folder / "model.safetensors", safetensors(header + "}", ""));
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(SafetensorsFolder(folder.path()).names().size(), 100'000u);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

TEST(Safetensors, AnUnknownElementTypeIsRefusedOnlyWhenItIsLoaded) {
  TempFolder folder;
  write_file(folder / "model.safetensors", safetensors(R"({"odd":{"dtype":"F5","shape":[3],"data_offsets":[0,2]},)"
                                                       R"("fine":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})",
                                                       "\x01\x02\x03"));
  SafetensorsFolder file(folder.path());
  EXPECT_EQ(values<uint8_t>(file.load("fine")), std::vector<uint8_t>{3});
  for (const std::string& message : {error_of([&] { file.load("odd"); }), error_of([&] { file.info("odd"); })}) {
    EXPECT_TRUE(contains(message, "model.safetensors: tensor odd: "));
    EXPECT_TRUE(contains(message, "F5"));
  }
}

}  // namespace
}  // namespace roundhouse
