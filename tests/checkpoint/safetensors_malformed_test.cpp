// SPDX-License-Identifier: Apache-2.0
// Every way in which a checkpoint can be missing or damaged, and what the user is told.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <random>

#include "host/checkpoint/safetensors.h"
#include "tests/checkpoint/support.h"

namespace roundhouse {
namespace {

using std::string_literals::operator""s;

struct Row {
  const char* name;
  std::string bytes;
  const char* message;
};

void PrintTo(const Row& row, std::ostream* out) { *out << row.name; }

std::string tensor(const std::string& name, const std::string& dtype, const std::string& shape,
                   const std::string& offsets) {
  return "\"" + name + R"(":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets, size_t bytes) {
  return safetensors("{" + tensor("x", dtype, shape, offsets) + "}", std::string(bytes, '\1'));
}

const std::vector<Row> kFiles{
    {"empty", "", "is empty (0 bytes)"},
    {"git_lfs", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "git lfs pull"},
    {"seven_bytes", "\1\0\0\0\0\0\0"s, "only 7 bytes"},
    {"another_format", "PK\3\4 a zip file, as PyTorch writes", "not a safetensors file"},
    {"header_too_long", "\1\xe1\xf5\5\0\0\0\0"s, "a header of 100000001 bytes (at most 100000000)"},
    {"header_truncated", "\x09\0\0\0\0\0\0\0{\"x\":"s, "has 9 bytes, but only 5 follow: the file is truncated"},
    {"header_empty", safetensors("", ""), "no JSON object"},
    {"header_list", safetensors("[]", ""), "no JSON object"},
    {"header_leading_space", safetensors(" {}", ""), "no JSON object"},
    {"header_not_closed", safetensors("{\"x\":", ""), "its JSON is damaged"},
    {"header_trailing_text", safetensors("{}{}", ""), "its JSON is damaged"},
    {"header_not_utf8", safetensors("{\"\xff\":1}", ""), "its JSON is damaged"},
    {"depth_bomb", safetensors("{\"x\":" + std::string(1 << 20, '['), ""), "nested more than 3 deep"},
    {"depth_bomb_objects", safetensors("{\"x\":{\"dtype\":[{\"x\":1}]}}", ""), "nested more than 3 deep"},
    {"twice", safetensors("{" + tensor("x", "U8", "[1]", "[0,1]") + "," + tensor("x", "U8", "[1]", "[0,1]") + "}", "1"),
     "names \"x\" twice"},
    {"twice_in_tensor", safetensors(R"({"x":{"dtype":"U8","shape":[0],"dtype":"U8","data_offsets":[0,0]}})", ""),
     "names \"dtype\" twice"},
    {"tensor_not_object", safetensors("{\"x\":1}", ""), "tensor x has no dtype"},
    {"no_dtype", safetensors(R"({"x":{"shape":[1],"data_offsets":[0,1]}})", "1"), "tensor x has no dtype"},
    {"no_shape", safetensors(R"({"x":{"dtype":"U8","data_offsets":[0,1]}})", "1"), "tensor x has no shape"},
    {"no_offsets", safetensors(R"({"x":{"dtype":"U8","shape":[1]}})", "1"), "tensor x has no data_offsets"},
    {"dtype_number", safetensors(R"({"x":{"dtype":8,"shape":[1],"data_offsets":[0,1]}})", "1"), "dtype is not text"},
    {"shape_number", one("U8", "1", "[0,1]", 1), "shape is not a list"},
    {"shape_negative", one("U8", "[-1]", "[0,1]", 1), "-1 in its shape is not a size"},
    {"shape_fraction", one("U8", "[1.5]", "[0,1]", 1), "1.5 in its shape is not a size"},
    {"shape_text", one("U8", "[\"1\"]", "[0,1]", 1), "\"1\" in its shape is not a size"},
    {"shape_above_int64", one("U8", "[9223372036854775808]", "[0,1]", 1), "is not a size"},
    {"shape_overflow", one("F32", "[4294967296,4294967296]", "[0,0]", 0), "is larger than any memory"},
    {"shape_overflow_to_fit", one("F32", "[2305843009213693953,4]", "[0,16]", 16), "is larger than any memory"},
    {"shape_overflow_behind_0", one("F32", "[4294967296,4294967296,0]", "[0,0]", 0), "is larger than any memory"},
    {"shape_overflow_unknown_dtype", one("F4", "[4294967296,4294967296]", "[0,0]", 0), "is larger than any memory"},
    {"shape_list", one("U8", "[[1]]", "[0,1]", 1), "nested more than 3 deep"},
    {"offsets_one", one("U8", "[1]", "[0]", 1), "data_offsets is not [begin, end]"},
    {"offsets_three", one("U8", "[1]", "[0,1,2]", 1), "data_offsets is not [begin, end]"},
    {"offsets_negative", one("U8", "[1]", "[-1,0]", 1), "data_offsets is not [begin, end]"},
    {"offsets_fraction", one("U8", "[1]", "[0,1e0]", 1), "data_offsets is not [begin, end]"},
    {"offsets_backwards", one("U8", "[1]", "[1,0]", 1), "its data_offsets [1, 0] run backwards"},
    {"data_truncated", one("F32", "[2]", "[0,8]", 7), "ends at byte 8 of the data, but the file holds only 7"},
    {"offset_overflow", one("U8", "[1]", "[18446744073709551615,18446744073709551615]", 1), "truncated"},
    {"data_too_long", one("F32", "[2]", "[0,8]", 9), "1 bytes follow the last tensor"},
    {"bytes_too_few", one("F32", "[3]", "[0,8]", 8), "F32 [3] needs 12 bytes, but its data_offsets span 8"},
    {"bytes_too_many", one("F16", "[3]", "[0,8]", 8), "F16 [3] needs 6 bytes, but its data_offsets span 8"},
    {"bytes_for_scalar", one("F32", "[]", "[0,8]", 8), "F32 [] needs 4 bytes"},
    {"hole_first", one("U8", "[1]", "[1,2]", 2), "a hole of 1 bytes before tensor x"},
    {"hole",
     safetensors("{" + tensor("x", "U8", "[1]", "[0,1]") + "," + tensor("y", "U8", "[1]", "[3,4]") + "}", "1234"),
     "a hole of 2 bytes before tensor y"},
    {"overlap",
     safetensors("{" + tensor("x", "U8", "[2]", "[0,2]") + "," + tensor("y", "U8", "[2]", "[1,3]") + "}", "123"),
     "tensors x and y overlap"},
    {"same_data",
     safetensors("{" + tensor("x", "U8", "[1]", "[0,1]") + "," + tensor("y", "U8", "[1]", "[0,1]") + "}", "1"),
     "tensors x and y overlap"},
    {"metadata_list", safetensors(R"({"__metadata__":[]})", ""), "__metadata__ is not a JSON object"},
    {"metadata_number", safetensors(R"({"__metadata__":{"step":1}})", ""), "__metadata__: step is not text"},
};

class MalformedFile : public testing::TestWithParam<Row> {};

TEST_P(MalformedFile, IsRefusedInWords) {
  TempFolder folder;
  write_file(folder / "model.safetensors", GetParam().bytes);
  const std::string message = error_of([&] { SafetensorsFolder{folder.path()}; });
  EXPECT_TRUE(contains(message, (folder / "model.safetensors").string()));
  EXPECT_TRUE(contains(message, GetParam().message));
}

std::string row_name(const testing::TestParamInfo<Row>& info) { return info.param.name; }
INSTANTIATE_TEST_SUITE_P(Safetensors, MalformedFile, testing::ValuesIn(kFiles), row_name);

const std::vector<Row> kIndexes{
    {"empty", "", "is empty (0 bytes)"},
    {"git_lfs", "version https://git-lfs.github.com/spec/v1\n", "git lfs pull"},
    {"not_json", "weight_map", "its JSON is damaged"},
    {"list", "[]", "no \"weight_map\""},
    {"no_map", "{}", "no \"weight_map\""},
    {"map_list", R"({"weight_map":[]})", "no \"weight_map\""},
    {"map_empty", R"({"weight_map":{}})", "weight_map is empty"},
    {"depth_bomb", std::string(1 << 20, '['), "nested more than 16 deep"},
    {"file_number", R"({"weight_map":{"a":1}})", "the file of tensor a is not text"},
    {"file_above", R"({"weight_map":{"a":"../model.safetensors"}})", "is not a plain file name"},
    {"file_absolute", R"({"weight_map":{"a":"/etc/passwd"}})", "is not a plain file name"},
    {"file_nul", R"({"weight_map":{"a":"a\u0000b"}})", "is not a plain file name"},
    {"file_folder", R"({"weight_map":{"a":".."}})", "is not a plain file name"},
    {"file_none", R"({"weight_map":{"a":""}})", "is not a plain file name"},
    {"tensor_twice", R"({"weight_map":{"a":"1.safetensors","a":"2.safetensors"}})", "names \"a\" twice"},
    {"shards_missing", R"({"weight_map":{"a":"1.safetensors","b":"2.safetensors","c":"shard.safetensors"}})",
     "names files that are missing beside it: 1.safetensors, 2.safetensors"},
    {"tensor_missing", R"({"weight_map":{"a":"shard.safetensors","b":"shard.safetensors"}})",
     "places tensor b in shard.safetensors, but it is not there"},
};

class MalformedIndex : public testing::TestWithParam<Row> {};

TEST_P(MalformedIndex, IsRefusedInWords) {
  TempFolder folder;
  write_file(folder / "shard.safetensors", safetensors("{" + tensor("a", "U8", "[1]", "[0,1]") + "}", "1"));
  write_file(folder / "model.safetensors.index.json", GetParam().bytes);
  const std::string message = error_of([&] { SafetensorsFolder{folder.path()}; });
  EXPECT_TRUE(contains(message, (folder / "model.safetensors.index.json").string()));
  EXPECT_TRUE(contains(message, GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(Safetensors, MalformedIndex, testing::ValuesIn(kIndexes), row_name);

TEST(MalformedFolder, SaysWhatIsMissing) {
  TempFolder folder;
  auto message = [&] { return error_of([&] { SafetensorsFolder{folder.path()}; }); };
  EXPECT_TRUE(
      contains(error_of([&] { SafetensorsFolder(folder / "nowhere"); }), "nowhere: there is no such file or folder"));
  EXPECT_TRUE(contains(message(), "has no .safetensors file"));
  write_file(folder / "pytorch_model.bin", "pickle");
  EXPECT_TRUE(contains(message(), "Convert them to safetensors"));
  write_file(folder / "1.safetensors", "");
  write_file(folder / "2.safetensors", "");
  EXPECT_TRUE(contains(message(), "2 .safetensors files (1.safetensors, 2.safetensors"));
  EXPECT_TRUE(contains(message(), "no model.safetensors.index.json"));
  fs::create_symlink(folder / "gone", folder / "model.safetensors");
  EXPECT_TRUE(contains(message(), "model.safetensors is a link to a file that is missing"));
  fs::remove(folder / "model.safetensors");
  fs::create_directory(folder / "model.safetensors");
  EXPECT_TRUE(contains(message(), "is not a regular file"));
  fs::remove(folder / "model.safetensors");
  ASSERT_EQ(::mkfifo((folder / "model.safetensors").c_str(), 0600), 0);
  EXPECT_TRUE(contains(message(), "is not a regular file"));
}

// Loads everything; Error is the only exception that may come out.
void load_all(const fs::path& path) {
  try {
    SafetensorsFolder folder(path);
    unsigned sum = 0;
    for (const std::string& name : folder.names()) {
      try {
        const Tensor tensor = folder.load(name);
        const auto* bytes = static_cast<const unsigned char*>(tensor.data());
        for (size_t i = 0; i < tensor.bytes(); ++i) sum += bytes[i];
      } catch (const Error&) {
      }
    }
    volatile unsigned read = sum;  // the bytes are really touched
    static_cast<void>(read);
  } catch (const Error&) {
  }
}

// A few random edits: a byte changed, a range cut, a range doubled, the end cut.
std::string mutate(std::string bytes, std::mt19937& random) {
  for (unsigned edits = 1 + random() % 3; edits > 0 && !bytes.empty(); --edits) {
    const size_t at = random() % bytes.size(), length = 1 + random() % 8;
    switch (random() % 5) {
      case 0:
        bytes[at] = static_cast<char>(random());
        break;
      case 1:
        bytes[at] = "0123456789[]{},:\"-"[random() % 18];
        break;
      case 2:
        bytes.erase(at, length);
        break;
      case 3:
        bytes.insert(at, bytes.substr(at, length));
        break;
      case 4:
        bytes.resize(at);
        break;
    }
  }
  return bytes;
}

TEST(MutatedFile, LoadsOrIsRefused) {
  TempFolder folder;
  const std::string valid = read_file(TEST_DATA "/checkpoint/all_types.safetensors");
  std::mt19937 random(1);
  for (int i = 0; i < 4000; ++i) {
    write_file(folder / "model.safetensors", mutate(valid, random));
    ASSERT_NO_THROW(load_all(folder.path())) << "mutation " << i;
  }
}

TEST(MutatedIndex, LoadsOrIsRefused) {
  TempFolder folder;
  write_file(folder / "a.safetensors", safetensors("{" + tensor("x", "U8", "[1]", "[0,1]") + "}", "1"));
  write_file(folder / "b.safetensors", safetensors("{" + tensor("y", "U8", "[1]", "[0,1]") + "}", "2"));
  const std::string valid = R"({"metadata":{"total_size":2},"weight_map":{"x":"a.safetensors","y":"b.safetensors"}})";
  std::mt19937 random(2);
  for (int i = 0; i < 2000; ++i) {
    write_file(folder / "model.safetensors.index.json", mutate(valid, random));
    ASSERT_NO_THROW(load_all(folder.path())) << "mutation " << i;
  }
}

}  // namespace
}  // namespace roundhouse
