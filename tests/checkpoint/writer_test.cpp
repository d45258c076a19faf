#include "host/checkpoint/writer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "host/checkpoint/safetensors.h"
#include "tests/checkpoint/file_limit.h"
#include "tests/checkpoint/support.h"

namespace roundhouse {
namespace {

const std::map<std::string, std::string> kMetadata{{"format", "pt"}};

// Adds tensors of `n` bytes, each with its own value.
void add_bytes(SafetensorsWriter& writer, const std::string& name, int64_t n, char value) {
  writer.add(name, DType::kU8, {n}, std::string(static_cast<size_t>(n), value).data());
}

TEST(SafetensorsWriter, WritesTheBytesOfTheSafetensorsPackage) {
  for (const auto& [file, reversed] :
       {std::pair{"all_types", false}, {"all_types", true}, {"raw_types", false}, {"raw_types", true}}) {
    const fs::path original = cat(TEST_DATA "/checkpoint/", file, ".safetensors");
    SafetensorsFolder source(original);
    auto names = source.names();
    if (reversed) std::reverse(names.begin(), names.end());
    TempFolder folder;
    OutputFolder output(folder / "out", false);
    SafetensorsWriter writer(output, 1 << 20, source.metadata());
    for (const std::string& name : names) {
      const Tensor tensor = source.load(name);
      writer.add(name, tensor.dtype(), tensor.shape(), tensor.data());
    }
    writer.finish();
    output.finish();
    EXPECT_EQ(read_file(folder / "out/model.safetensors"), read_file(original));
    EXPECT_FALSE(fs::exists(folder / "out/model.safetensors.index.json"));
  }
}

TEST(SafetensorsWriter, SplitsIntoShardsWithAnIndex) {
  TempFolder folder;
  OutputFolder output(folder / "out", false);
  SafetensorsWriter writer(output, 10, kMetadata);
  add_bytes(writer, "a", 6, 'a');
  add_bytes(writer, "b", 4, 'b');       // fills the first exactly
  add_bytes(writer, "large", 25, 'l');  // alone, past the limit
  add_bytes(writer, "c", 1, 'c');
  writer.add("none", DType::kF32, {0, 3}, nullptr);
  writer.finish();
  output.finish();

  const auto name = [](int i) { return cat("model-0000", i, "-of-00003.safetensors"); };
  EXPECT_EQ(list(folder / "out"),
            (std::set<std::string>{".roundhouse", name(1), name(2), name(3), "model.safetensors.index.json"}));
  const auto index = nlohmann::json::parse(read_file(folder / "out/model.safetensors.index.json"));
  EXPECT_EQ(index["metadata"]["total_size"], 36);
  const nlohmann::json weight_map{
      {"a", name(1)}, {"b", name(1)}, {"large", name(2)}, {"c", name(3)}, {"none", name(3)}};
  EXPECT_EQ(index["weight_map"], weight_map);

  SafetensorsFolder back(folder / "out");
  EXPECT_EQ(back.names(), (std::vector<std::string>{"a", "b", "large", "none", "c"}));
  EXPECT_EQ(values<char>(back.load("b")), std::vector<char>(4, 'b'));
  EXPECT_EQ(values<char>(back.load("large")), std::vector<char>(25, 'l'));
  EXPECT_EQ(back.load("none").shape(), (std::vector<int64_t>{0, 3}));
  EXPECT_EQ(SafetensorsFolder(folder / ("out/" + name(3))).metadata(), kMetadata);
}

TEST(SafetensorsWriter, WritesAnEmptyCheckpoint) {
  TempFolder folder;
  OutputFolder output(folder / "out", false);
  SafetensorsWriter writer(output, 10, {});
  writer.finish();
  // What the safetensors package writes for no tensors.
  EXPECT_EQ(read_file(output.partial() / "model.safetensors"), std::string("\x08\0\0\0\0\0\0\0{}      ", 16));
  EXPECT_TRUE(SafetensorsFolder(output.partial()).names().empty());
}

TEST(SafetensorsWriter, RefusesNamesThatCannotBe) {
  TempFolder folder;
  OutputFolder output(folder / "out", false);
  SafetensorsWriter writer(output, 4, {});
  add_bytes(writer, "a", 3, 'a');
  add_bytes(writer, "b", 3, 'b');  // "a" is in a closed shard now
  EXPECT_TRUE(contains(error_of([&] { add_bytes(writer, "a", 3, 'a'); }), "tensor a would be written twice"));
  EXPECT_TRUE(contains(error_of([&] { add_bytes(writer, "__metadata__", 3, 'a'); }), "reserves that name"));
  add_bytes(writer, "\xff", 1, 'c');
  EXPECT_TRUE(contains(error_of([&] { writer.finish(); }), "not valid UTF-8"));
}

// The disk is full while a tensor is spooled, or while a finished shard is copied behind its header.
TEST(SafetensorsWriter, AFullDiskLeavesNothingThatLooksWhole) {
  for (const rlim_t limit : {rlim_t{5000}, rlim_t{10010}}) {
    TempFolder folder;
    const std::string message = error_of([&] {
      OutputFolder output(folder / "out", false);
      SafetensorsWriter writer(output, 1 << 20, {});
      FileLimit full(limit);
      add_bytes(writer, "a", 10000, 'a');
      writer.finish();
      output.finish();
    });
    EXPECT_TRUE(contains(message, (folder / "out.partial").string()));
    EXPECT_TRUE(contains(message, "File too large"));
    EXPECT_TRUE(contains(message, cat(limit, " bytes were written, ")));
    EXPECT_EQ(list(folder.path()), std::set<std::string>{}) << message;
  }
}

}  // namespace
}  // namespace roundhouse
