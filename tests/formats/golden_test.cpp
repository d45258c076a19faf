// SPDX-License-Identifier: Apache-2.0
// The reference's exports, read, decoded and packed again. tests/data/exports/README.md says where they come from.
#include <cstring>

#include "host/checkpoint/safetensors.h"
#include "kernels/floats.h"
#include "tests/formats/format_fixture.h"

namespace roundhouse::formats {
namespace {

using kernels::float_from_half;

enum class Stored { kDirect, kMinusOne, kAwq };

struct Golden {
  const char* folder;
  const char* format;
  Stored stored;
  int bits;    // of down_proj
  int bits_k;  // of k_proj
  bool symmetric;
};

const Golden kGoldens[] = {
    {"w4_rtn_regular", "auto_round", Stored::kMinusOne, 4, 4, true},
    {"w4_mixed_layercfg", "auto_round", Stored::kMinusOne, 4, 8, true},
    {"w5g128_asym_autoround_it5", "auto_round", Stored::kDirect, 5, 5, false},
    {"w4g128_asym_autoround_it20", "auto_round", Stored::kAwq, 4, 4, false},
    {"w4g128_asym_gptq_it20", "auto_gptq", Stored::kMinusOne, 4, 4, false},
    {"w3g128_sym_gptq_it5", "auto_gptq", Stored::kMinusOne, 3, 3, true},
    {"w4_gptq_mixed_layercfg", "auto_gptq", Stored::kMinusOne, 4, 8, true},
    {"w4g128_sym_gptq_it20", "auto_gptq", Stored::kMinusOne, 4, 4, true},
    {"multi_format_auto_gptq", "auto_gptq", Stored::kMinusOne, 4, 4, true},
    {"multi_format_auto_round", "auto_round", Stored::kMinusOne, 4, 4, true},
    {"w4_optrtn_autoround", "auto_round", Stored::kMinusOne, 4, 4, true},
    {"w4_lmhead", "auto_round", Stored::kMinusOne, 4, 4, true},
    {"w8g128_sym_autoround_rtn", "auto_round", Stored::kMinusOne, 8, 8, true},
    {"w4_asym_rtn_modelfree", "auto_round", Stored::kDirect, 4, 4, false},
    {"w4g128_sym_awq_it20", "auto_awq", Stored::kAwq, 4, 4, true},
    {"w4g128_asym_awq_it20", "auto_awq", Stored::kAwq, 4, 4, false},
};

// `bits` bits of a stream of words, one at a time.
int value(const int32_t* words, int64_t stride, int64_t index, int bits) {
  int out = 0;
  for (int b = 0; b < bits; ++b) {
    const int64_t bit = index * bits + b;
    out |= static_cast<int>(static_cast<uint32_t>(words[bit / 32 * stride]) >> bit % 32 & 1) << b;
  }
  return out;
}

// AWQ's stream of 8 rows holds row 2i at i and row 2i+1 at i + 4.
int64_t awq_position(int64_t row) { return row / 8 * 8 + row % 8 / 2 + row % 2 * 4; }

// The weight at [row, col] straight from the stored tensors, groups of 128 columns.
float stored_weight(const Golden& golden, SafetensorsFolder& file, const std::string& layer, int bits, int64_t row,
                    int64_t col) {
  const Tensor qweight = file.load(layer + ".qweight"), qzeros = file.load(layer + ".qzeros");
  const Tensor scales = file.load(layer + ".scales");
  const int64_t rows = scales.dim(1), group = col / 128;
  const bool awq = golden.stored == Stored::kAwq;
  const int code = awq ? value(qweight.as<int32_t>() + col * qweight.dim(1), 1, awq_position(row), bits)
                       : value(qweight.as<int32_t>() + row, rows, col, bits);
  const int zero = value(qzeros.as<int32_t>() + group * qzeros.dim(1), 1, awq ? awq_position(row) : row, bits) +
                   (golden.stored == Stored::kMinusOne ? 1 : 0);
  return float_from_half(scales.as<uint16_t>()[group * rows + row]) * static_cast<float>(code - zero);
}

class GoldenExport : public testing::TestWithParam<Golden> {};

TEST_P(GoldenExport, IsClaimedByItsFormatOnly) {
  const std::string folder = exports() / GetParam().folder;
  for (const char* name : {"auto_round", "auto_gptq", "auto_awq", "fake"}) {
    const FormatPlugin format(name);
    EXPECT_EQ(format->probe(format.get(), folder.c_str()) > 0, std::string(name) == GetParam().format) << name;
  }
}

TEST_P(GoldenExport, DecodesToTheStoredBits) {
  const Golden& golden = GetParam();
  const FormatPlugin format(golden.format);
  const TestReader reader(format, exports() / golden.folder);
  ASSERT_EQ(reader.error(), "");
  SafetensorsFolder file(exports() / golden.folder);
  for (const auto& [layer, bits] : {std::pair<std::string, int>{"model.layers.0.mlp.down_proj", golden.bits},
                                    {"model.layers.0.self_attn.k_proj", golden.bits_k}}) {
    const rh_item item = reader.item(layer + ".weight");
    EXPECT_EQ(item.kind, RH_ITEM_LAYER);
    const auto parameters = nlohmann::json::parse(item.encoding->parameters_json);
    EXPECT_EQ(
        parameters,
        (nlohmann::json{{"bits", bits}, {"group_cols", 128}, {"group_rows", 1}, {"symmetric", golden.symmetric}}));
    const Tensor weight = reader.read(layer + ".weight", DType::kF32);
    ASSERT_EQ(weight.shape(), (std::vector<int64_t>{item.shape[0], item.shape[1]}));
    for (int64_t row = 0; row < weight.dim(0); row += 7) {
      for (int64_t col = 0; col < weight.dim(1); col += 13) {
        ASSERT_EQ(weight.as<float>()[row * weight.dim(1) + col], stored_weight(golden, file, layer, bits, row, col))
            << layer << " [" << row << ", " << col << "]";
      }
    }
  }
  const Tensor norm = reader.read("model.layers.0.input_layernorm.weight");
  const Tensor stored = file.load("model.layers.0.input_layernorm.weight");
  EXPECT_EQ(norm.dtype(), DType::kBF16);
  EXPECT_EQ(std::memcmp(norm.data(), stored.data(), stored.bytes()), 0);
}

// Unpacked and packed again, every tensor of the reference's export comes back, bit for bit. auto_round only reads
// AWQ's order: those layers come back in AutoRound's own.
TEST_P(GoldenExport, PacksToTheSameTensors) {
  const Golden& golden = GetParam();
  const FormatPlugin format(golden.format);
  const TestReader reader(format, exports() / golden.folder);
  ASSERT_EQ(reader.error(), "");
  std::vector<TestLayer> layers;
  for (const auto& name : reader.names()) {
    if (reader.item(name).kind == RH_ITEM_LAYER) layers.push_back(reader.read_encoded(name));
  }
  const TempFolder temporary;
  write_export(format, temporary.path() / "out", layers);
  if (golden.stored == Stored::kAwq && std::string(golden.format) == "auto_round") {
    const TestReader again(format, temporary.path() / "out");
    for (const auto& layer : layers) {
      const Tensor a = reader.read(layer.name + ".weight"), b = again.read(layer.name + ".weight");
      EXPECT_EQ(std::memcmp(a.data(), b.data(), a.bytes()), 0) << layer.name;
    }
    return;
  }
  SafetensorsFolder expected(exports() / golden.folder), written(temporary.path() / "out");
  size_t compared = 0;
  for (const auto& name : expected.names()) {
    if (name.ends_with(".weight")) continue;  // unquantized
    ASSERT_TRUE(written.contains(name)) << name;
    const Tensor a = expected.load(name), b = written.load(name);
    EXPECT_EQ(a.dtype(), b.dtype()) << name;
    EXPECT_EQ(a.shape(), b.shape()) << name;
    EXPECT_EQ(std::memcmp(a.data(), b.data(), a.bytes()), 0) << name;
    ++compared;
  }
  EXPECT_EQ(compared, written.names().size());
}

INSTANTIATE_TEST_SUITE_P(Reference, GoldenExport, testing::ValuesIn(kGoldens),
                         [](const auto& info) { return info.param.folder; });

// The scheme of w4_rtn_regular gives the configuration of w4_rtn_regular, but for who wrote it and how.
TEST(GoldenConfig, HasTheReferencesKeys) {
  const FormatPlugin format("auto_round");
  const TempFolder temporary;
  write_export(format, temporary.path() / "out",
               {random_layer("model.layers.0.self_attn.q_proj", 4, 128, 256, 128, true)});
  auto written = read_json(temporary.path() / "out/config.json").at("quantization_config");
  EXPECT_EQ(written, read_json(temporary.path() / "out/quantization_config.json"));
  auto expected = read_json(exports() / "w4_rtn_regular/config.json").at("quantization_config");
  for (const char* key : {"autoround_version", "enable_quanted_input"}) expected.erase(key);
  for (const auto& [key, value] : expected.items()) EXPECT_EQ(written.value(key, nlohmann::json()), value) << key;
}

}  // namespace
}  // namespace roundhouse::formats
