// SPDX-License-Identifier: Apache-2.0
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

TensorSpec bytes_spec(const std::string& name, int64_t n) { return {name, DType::kU8, {n}}; }

// Adds tensors of `n` bytes, each with its own value.
void add_bytes(SafetensorsWriter& writer, const std::string& name, int64_t n, char value) {
  writer.add(name, DType::kU8, {n}, std::string(static_cast<size_t>(n), value).data());
}

// All files in a folder.
std::map<std::string, std::string> files_in(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const std::string& name : list(folder)) files[name] = read_file(folder / name);
  return files;
}

TEST(SafetensorsWriter, WritesTheBytesOfTheSafetensorsPackage) {
  for (const auto& [file, reversed] :
       {std::pair{"all_types", false}, {"all_types", true}, {"raw_types", false}, {"raw_types", true}}) {
    const fs::path original = cat(TEST_DATA "/checkpoint/", file, ".safetensors");
    SafetensorsFolder source(original);
    auto names = source.names();
    std::vector<TensorSpec> specs;
    for (const std::string& name : names) {
      const Tensor tensor = source.load(name);
      specs.push_back({name, tensor.dtype(), tensor.shape()});
    }
    if (reversed) std::reverse(names.begin(), names.end());
    TempFolder folder;
    OutputFolder output(folder / "out", false);
    SafetensorsWriter writer(output, 1 << 20, source.metadata(), specs);
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

// "a" and "b" fill the first file exactly; "large" is alone, past the limit.
const std::vector<TensorSpec> kFive{
    bytes_spec("a", 6), bytes_spec("b", 4), bytes_spec("large", 25), bytes_spec("c", 1), {"none", DType::kF32, {0, 3}}};

void add_one_of_five(SafetensorsWriter& writer, const std::string& name) {
  for (const TensorSpec& spec : kFive)
    if (spec.name == name)
      writer.add(name, spec.dtype, spec.shape, std::string(bytes_of(spec.dtype, spec.shape), name[0]).data());
}

TEST(SafetensorsWriter, SplitsIntoShardsWithAnIndex) {
  TempFolder folder;
  OutputFolder output(folder / "out", false);
  SafetensorsWriter writer(output, 10, kMetadata, kFive);
  for (const TensorSpec& spec : kFive) add_one_of_five(writer, spec.name);
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

TEST(SafetensorsWriter, AFullFileIsCommittedAtOnce) {
  TempFolder folder;
  OutputFolder output(folder / "out", false);
  SafetensorsWriter writer(output, 10, kMetadata, kFive);
  add_one_of_five(writer, "c");
  add_one_of_five(writer, "b");
  add_one_of_five(writer, "a");
  EXPECT_EQ(list(output.partial()), (std::set<std::string>{".roundhouse", "model-00001-of-00003.safetensors",
                                                           "model-00003-of-00003.safetensors.tmp"}));
}

TEST(SafetensorsWriter, WritesAnEmptyCheckpoint) {
  TempFolder folder;
  OutputFolder output(folder / "out", false);
  SafetensorsWriter writer(output, 10, {}, {});
  writer.finish();
  // What the safetensors package writes for no tensors.
  EXPECT_EQ(read_file(output.partial() / "model.safetensors"), std::string("\x08\0\0\0\0\0\0\0{}      ", 16));
  EXPECT_TRUE(SafetensorsFolder(output.partial()).names().empty());
}

TEST(SafetensorsWriter, RefusesNamesThatCannotBe) {
  TempFolder folder;
  OutputFolder output(folder / "out", false);
  const auto refusal = [&](const std::vector<TensorSpec>& specs) {
    return error_of([&] { SafetensorsWriter(output, 4, {}, specs); });
  };
  EXPECT_TRUE(contains(refusal({bytes_spec("a", 3), bytes_spec("b", 3), bytes_spec("a", 3)}),
                       "tensor a would be written twice"));
  EXPECT_TRUE(contains(refusal({bytes_spec("__metadata__", 3)}), "reserves that name"));
  EXPECT_TRUE(contains(refusal({bytes_spec("\xff", 1)}), "not valid UTF-8"));
  EXPECT_TRUE(contains(refusal({{"half", DType::kF4E2M1, {3}}}), "half: F4 [3] does not fill whole bytes"));
}

TEST(SafetensorsWriter, TakesWhatWasAnnouncedAndAllOfIt) {
  TempFolder folder;
  OutputFolder output(folder / "out", false);
  SafetensorsWriter writer(output, 10, {}, {bytes_spec("a", 3), bytes_spec("b", 3)});
  EXPECT_TRUE(contains(error_of([&] { add_bytes(writer, "c", 3, 'c'); }), "tensor c was not announced"));
  EXPECT_EQ(error_of([&] { add_bytes(writer, "a", 4, 'a'); }), "tensor a is U8 [4], but was announced as U8 [3]");
  EXPECT_EQ(error_of([&] { writer.add("a", DType::kI8, {3}, "aaa"); }),
            "tensor a is I8 [3], but was announced as U8 [3]");
  add_bytes(writer, "a", 3, 'a');
  EXPECT_EQ(error_of([&] { add_bytes(writer, "a", 3, 'a'); }), "tensor a would be written twice");
  EXPECT_EQ(error_of([&] { writer.finish(); }), "tensor b was announced but never added");
}

// After every tensor: what is on the disk then and what was saved is all that another writer has.
TEST(SafetensorsWriter, GoesOnFromWhereItWasSaved) {
  TempFolder folder;
  const std::vector<std::string> order{"large", "c", "b", "none", "a"};
  {
    OutputFolder output(folder / "whole", false);
    SafetensorsWriter writer(output, 10, kMetadata, kFive);
    for (const std::string& name : order) add_one_of_five(writer, name);
    writer.finish();
    output.finish();
  }
  for (size_t before = 0; before <= order.size(); ++before) {
    for (size_t lost = 0; before + lost <= order.size(); ++lost) {
      SCOPED_TRACE(cat(before, " before it was saved, ", lost, " lost"));
      const fs::path path = folder / cat("out-", before, "-", lost);
      std::string saved;
      {
        OutputFolder output(path, false, Partial::kKeep);
        SafetensorsWriter writer(output, 10, kMetadata, kFive);
        for (size_t i = 0; i < before; ++i) add_one_of_five(writer, order[i]);
        saved = writer.save();
        for (size_t i = before; i < before + lost; ++i) add_one_of_five(writer, order[i]);
      }
      OutputFolder output(path, false, Partial::kTakeUp);
      SafetensorsWriter writer(output, 10, kMetadata, kFive, saved);
      if (before > 0) {
        EXPECT_EQ(error_of([&] { add_one_of_five(writer, order[0]); }), "tensor large would be written twice");
      }
      for (size_t i = before; i < order.size(); ++i) add_one_of_five(writer, order[i]);
      writer.finish();
      output.finish();
      EXPECT_EQ(files_in(path), files_in(folder / "whole"));
    }
  }
}

TEST(SafetensorsWriter, RefusesToGoOnWithSomethingElse) {
  TempFolder folder;
  std::string saved;
  {
    OutputFolder output(folder / "out", false, Partial::kKeep);
    SafetensorsWriter writer(output, 10, kMetadata, kFive);
    add_one_of_five(writer, "large");
    add_one_of_five(writer, "a");
    saved = writer.save();
  }
  OutputFolder output(folder / "out", false, Partial::kTakeUp);
  const auto refusal = [&](const std::vector<TensorSpec>& specs, const std::string& state) {
    return error_of([&] { SafetensorsWriter(output, 10, kMetadata, specs, state); });
  };
  EXPECT_TRUE(contains(refusal(kFive, saved + "x"), "is damaged"));
  EXPECT_TRUE(contains(refusal({kFive.begin(), kFive.begin() + 4}, saved), "of other tensors"));
  std::vector<TensorSpec> others = kFive;
  others[1].name = "bb";
  EXPECT_TRUE(contains(refusal(others, saved), "model-00001-of-00003.safetensors.tmp was begun with other tensors"));
  fs::rename(folder / "out.partial/model-00002-of-00003.safetensors", folder / "moved");
  EXPECT_TRUE(contains(refusal(kFive, saved), "model-00002-of-00003.safetensors is missing"));
  fs::resize_file(folder / "out.partial/model-00001-of-00003.safetensors.tmp", 20);
  EXPECT_TRUE(contains(refusal(kFive, saved), "has 20 bytes, and "));
}

// The disk is full while the header is written, or a tensor.
TEST(SafetensorsWriter, AFullDiskLeavesNothingThatLooksWhole) {
  for (const rlim_t limit : {rlim_t{50}, rlim_t{5000}}) {
    TempFolder folder;
    const std::string message = error_of([&] {
      OutputFolder output(folder / "out", false);
      SafetensorsWriter writer(output, 1 << 20, {}, {bytes_spec("a", 10000)});
      FileLimit full(limit);
      add_bytes(writer, "a", 10000, 'a');
      writer.finish();
      output.finish();
    });
    EXPECT_TRUE(contains(message, (folder / "out.partial").string()));
    EXPECT_TRUE(contains(message, "File too large"));
    EXPECT_TRUE(contains(message, " bytes were written, "));
    EXPECT_EQ(list(folder.path()), std::set<std::string>{}) << message;
  }
}

}  // namespace
}  // namespace roundhouse
