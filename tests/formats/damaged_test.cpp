// SPDX-License-Identifier: Apache-2.0
// Damaged exports: each mistake gets a message that names folder and tensor.
#include <fstream>
#include <functional>
#include <map>

#include "host/checkpoint/safetensors.h"
#include "host/checkpoint/writer.h"
#include "tests/formats/format_fixture.h"

namespace roundhouse::formats {
namespace {

using Tensors = std::map<std::string, Tensor>;

const std::string kLayer = "model.layers.0.mlp.down_proj";

// A copy of the tensor with some rows less.
Tensor shortened(const Tensor& tensor, int64_t rows) {
  auto shape = tensor.shape();
  shape[0] -= rows;
  return Tensor(tensor.dtype(), shape, tensor.data(), tensor.storage());
}

struct Damage {
  const char* name;
  std::function<void(Tensors&)> change;
  const char* message;
};

const Damage kDamages[] = {
    {"MissingZeros", [](Tensors& t) { t.erase(kLayer + ".qzeros"); }, "down_proj.qzeros is missing"},
    {"MissingScales", [](Tensors& t) { t.erase(kLayer + ".scales"); }, "down_proj.scales is missing"},
    {"MissingCodes", [](Tensors& t) { t.erase(kLayer + ".qweight"); }, "down_proj.qweight is missing"},
    {"CodesOfAnotherShape", [](Tensors& t) { t[kLayer + ".qweight"] = shortened(t[kLayer + ".qweight"], 1); },
     "down_proj.qweight of [47, 256] does not hold 3-bit codes"},
    {"ZerosOfAnotherShape", [](Tensors& t) { t[kLayer + ".qzeros"] = shortened(t[kLayer + ".qzeros"], 1); },
     "down_proj.qzeros of [3, 24] does not hold zero points"},
    {"ScalesOfAnotherType",
     [](Tensors& t) { t[kLayer + ".scales"] = Tensor(DType::kF32, t[kLayer + ".scales"].shape()); },
     "down_proj.scales is not of type F16"},
    {"UnknownBits",
     [](Tensors& t) {
       t[kLayer + ".qzeros"] = Tensor(DType::kI32, {4, 8 * 9});
     },
     "down_proj.qzeros of [4, 72] does not hold zero points of 2 to 8 bits"},
    {"GroupThatIsNotThere",
     [](Tensors& t) {
       Tensor permuted(DType::kI32, {512});
       permuted.as<int32_t>()[5] = 4;
       t[kLayer + ".g_idx"] = permuted;
     },
     "down_proj.g_idx names the group 4, and scales of [4, 256] have 4"},
    {"GroupsOfAnotherWidth",
     [](Tensors& t) {
       Tensor wide(DType::kI32, {512});
       for (int c = 256; c < 512; ++c) wide.as<int32_t>()[c] = 1;
       t[kLayer + ".g_idx"] = wide;
     },
     "down_proj.scales of [4, 256] does not fit 512 columns in groups of 256"},
};

// A checkpoint of `tensors` with the given config.json.
void write_checkpoint(const std::filesystem::path& out, const Tensors& tensors, const std::string& config) {
  OutputFolder folder(out, false);
  std::vector<TensorSpec> specs;
  for (const auto& [name, tensor] : tensors) specs.push_back({name, tensor.dtype(), tensor.shape()});
  SafetensorsWriter writer(folder, uint64_t{1} << 30, {}, specs);
  for (const auto& [name, tensor] : tensors) writer.add(name, tensor.dtype(), tensor.shape(), tensor.data());
  writer.finish();
  folder.write_text("config.json", config);
  folder.finish();
}

class Damaged : public testing::TestWithParam<Damage> {};

TEST_P(Damaged, IsRefusedInWords) {
  const std::string golden = exports() / "w3g128_sym_gptq_it5";
  const TempFolder temporary;
  const auto out = temporary.path() / "damaged";
  Tensors tensors;
  SafetensorsFolder source(golden);
  for (const auto& name : source.names()) tensors[name] = source.load(name);
  GetParam().change(tensors);
  write_checkpoint(out, tensors, read_json(golden + "/config.json").dump());
  const FormatPlugin format("auto_gptq");
  const TestReader reader(format, out);
  EXPECT_NE(reader.error().find(GetParam().message), std::string::npos) << reader.error();
  EXPECT_NE(reader.error().find(out.string()), std::string::npos) << reader.error();
}

INSTANTIATE_TEST_SUITE_P(Tensors, Damaged, testing::ValuesIn(kDamages),
                         [](const auto& info) { return info.param.name; });

// AWQ's order is of 8 rows at a time.
TEST(DamagedAwq, NeedsRowsInMultiplesOfEight) {
  const TempFolder temporary;
  const Tensors tensors{{"l.qweight", Tensor(DType::kI32, {32, 1})},
                        {"l.qzeros", Tensor(DType::kI32, {1, 1})},
                        {"l.scales", Tensor(DType::kF16, {1, 4})}};
  const auto out = temporary.path() / "out";
  write_checkpoint(
      out, tensors,
      R"({"quantization_config": {"quant_method": "auto-round", "packing_format": "auto_round:auto_awq"}})");
  const FormatPlugin format("auto_round");
  EXPECT_EQ(TestReader(format, out).error(),
            out.string() + ": l.qweight of [32, 1] does not hold 8-bit codes for scales of [1, 4]");
}

TEST(DamagedConfig, IsRefusedInWords) {
  struct Case {
    const char* format;
    const char* config;
    const char* message;
  };
  const Case cases[] = {
      {"auto_round", "{", "config.json"},
      {"auto_round", "[]", "is not a JSON object"},
      {"auto_round", "{}", "quant_method none"},
      {"auto_round", R"({"quantization_config": {"quant_method": "gptq"}})", "quant_method gptq"},
      {"auto_round",
       R"({"quantization_config": {"quant_method": "auto-round", "packing_format": "auto_round:llm_compressor"}})",
       "packing_format auto_round:llm_compressor"},
      {"auto_round",
       R"({"quantization_config": {"quant_method": "auto-round", "packing_format": "auto_round", "data_type": "mx_fp6"}})",
       "data_type mx_fp6"},
      {"auto_gptq", "{}", "quant_method is not gptq"},
  };
  for (const Case& c : cases) {
    const TempFolder folder;
    std::filesystem::copy_file(exports() / "w3g128_sym_gptq_it5/model.safetensors",
                               folder.path() / "model.safetensors");
    std::ofstream(folder.path() / "config.json") << c.config;
    const FormatPlugin format(c.format);
    const TestReader reader(format, folder.path());
    EXPECT_NE(reader.error().find(c.message), std::string::npos) << c.config << " gave: " << reader.error();
  }
}

}  // namespace
}  // namespace roundhouse::formats
