// SPDX-License-Identifier: Apache-2.0
// Layers written by a format and read back by it.
#include <cstring>
#include <fstream>
#include <limits>

#include "host/base/error.h"
#include "host/checkpoint/safetensors.h"
#include "kernels/floats.h"
#include "plugins/formats/lib/text.h"
#include "tests/formats/encoded_fixture.h"

namespace roundhouse::formats {
namespace {

using kernels::bfloat_from_float;
using kernels::float_from_bfloat;
using kernels::float_from_half;
using kernels::half_from_float;

const std::string kName = "model.layers.0.self_attn.q_proj";

void expect_same_weights(const TestReader& reader, const TestLayer& layer) {
  const Tensor f32 = reader.read(layer.name + ".weight", DType::kF32);
  const Tensor bf16 = reader.read(layer.name + ".weight", DType::kBF16);
  const Tensor f16 = reader.read(layer.name + ".weight", DType::kF16);
  for (int64_t i = 0; i < layer.rows * layer.cols; ++i) {
    const float expected = layer.weight(i / layer.cols, i % layer.cols);
    // As numbers: a mirrored group may turn 0 into -0.
    ASSERT_EQ(f32.as<float>()[i], expected) << layer.name << " element " << i;
    ASSERT_EQ(float_from_bfloat(bf16.as<uint16_t>()[i]), float_from_bfloat(bfloat_from_float(expected)));
    ASSERT_EQ(float_from_half(f16.as<uint16_t>()[i]), float_from_half(half_from_float(expected)));
  }
}

// Every width of `bits` with groups narrower and wider than the layer.
std::vector<TestLayer> layers_of(std::initializer_list<int> bits, bool symmetric) {
  std::vector<TestLayer> layers;
  for (int64_t group_size : {64, 32, 128, 512, -1}) {
    for (int b : bits) {
      layers.push_back(random_layer(cat("model.layers.0.w", b, "g", group_size), b, 64, 256, group_size, symmetric));
    }
  }
  return layers;
}

TEST(WriteRead, GivesTheSameWeights) {
  for (bool symmetric : {true, false}) {
    for (const std::string name : {"auto_round", "auto_gptq"}) {
      SCOPED_TRACE(cat(name, ", sym ", symmetric));
      const auto layers =
          name == "auto_round" ? layers_of({4, 2, 3, 5, 6, 7, 8}, symmetric) : layers_of({4, 2, 3, 8}, symmetric);
      const FormatPlugin format(name);
      const TempFolder temporary;
      const auto folder = temporary.path() / "out";
      write_export(format, folder, layers);
      EXPECT_GT(format->probe(format.get(), folder.c_str()), 0);
      const TestReader reader(format, folder);
      ASSERT_EQ(reader.error(), "");
      for (const auto& layer : layers) {
        expect_same_weights(reader, layer);
        const TestLayer encoded = reader.read_encoded(layer.name + ".weight");
        EXPECT_EQ(encoded.bits, layer.bits);
        EXPECT_EQ(encoded.symmetric, symmetric);
        EXPECT_EQ(encoded.groups(), layer.groups());
        for (int64_t i = 0; i < layer.rows * layer.cols; ++i) {
          ASSERT_EQ(encoded.weight(i / layer.cols, i % layer.cols), layer.weight(i / layer.cols, i % layer.cols));
        }
      }
    }
  }
}

TEST(WriteRead, FakeHasPlainWeightsOfTheSourcesType) {
  const FormatPlugin format("fake");
  const TempFolder temporary;
  const auto folder = temporary.path() / "out";
  auto f32 = random_layer("model.layers.0.f32", 4, 20, 30, 7, false);
  f32.dtype = DType::kF32;
  const auto bf16 = random_layer("model.layers.0.bf16", 8, 20, 30, 7, false);
  write_export(format, folder, {f32, bf16});
  EXPECT_EQ(format->probe(format.get(), folder.c_str()), 1);
  const TestReader reader(format, folder);
  const Tensor a = reader.read("model.layers.0.f32.weight"), b = reader.read("model.layers.0.bf16.weight");
  ASSERT_EQ(a.dtype(), DType::kF32);
  ASSERT_EQ(b.dtype(), DType::kBF16);
  for (int64_t i = 0; i < 600; ++i) {
    EXPECT_EQ(a.as<float>()[i], f32.weight(i / 30, i % 30));
    EXPECT_EQ(b.as<uint16_t>()[i], bfloat_from_float(bf16.weight(i / 30, i % 30)));
  }
}

// Engines want columns in multiples of the group size.
TEST(WriteRead, TellsAGroupWiderThanTheLayerAsOneARow) {
  const auto layer = random_layer(kName, 4, 64, 64, 128, true);
  for (const char* name : {"auto_round", "auto_gptq"}) {
    const FormatPlugin format(name);
    const TempFolder temporary;
    write_export(format, temporary.path() / "out", {layer});
    const auto config = read_json(temporary.path() / "out/config.json").at("quantization_config");
    EXPECT_EQ(config.at("group_size"), -1);
    expect_same_weights(TestReader(format, temporary.path() / "out"), layer);
  }
}

TEST(WriteRead, TakesScalesOfEveryType) {
  const FormatPlugin format("auto_round");
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    const TempFolder temporary;
    const auto layer = random_layer(kName, 4, 32, 64, 32, true, dtype);
    write_export(format, temporary.path() / "out", {layer});
    expect_same_weights(TestReader(format, temporary.path() / "out"), layer);
  }
}

TEST(WriteRead, KeepsUnquantizedTensorsAndBias) {
  Tensor embedding(DType::kBF16, {2, 3}), bias(DType::kBF16, {32});
  for (int i = 0; i < 6; ++i) embedding.as<uint16_t>()[i] = static_cast<uint16_t>(0x3f80 + i);
  for (int i = 0; i < 32; ++i) bias.as<uint16_t>()[i] = static_cast<uint16_t>(0x4000 + i);
  for (const char* name : {"auto_round", "auto_gptq", "auto_awq", "fake"}) {
    SCOPED_TRACE(name);
    const FormatPlugin format(name);
    const TempFolder temporary;
    auto layer = random_layer(kName, 4, 32, 64, 32, true);
    layer.bias = bias;
    TestExport target(format, temporary.path() / "out", {layer}, {"model.embed_tokens"});
    ASSERT_EQ(target.add_tensor("model.embed_tokens.weight", embedding), "");
    ASSERT_EQ(target.add_layer(layer), "");
    ASSERT_EQ(target.finish(), "");
    const TestReader reader(format, temporary.path() / "out");
    EXPECT_EQ(reader.names().size(), 3u);
    for (const auto& [key, tensor] :
         {std::pair<std::string, Tensor>{"model.embed_tokens.weight", embedding}, {kName + ".bias", bias}}) {
      const Tensor read = reader.read(key);
      EXPECT_EQ(reader.item(key).kind, RH_ITEM_TENSOR);
      EXPECT_EQ(read.dtype(), DType::kBF16);
      EXPECT_EQ(read.shape(), tensor.shape());
      EXPECT_EQ(std::memcmp(read.data(), tensor.data(), tensor.bytes()), 0);
    }
    EXPECT_EQ(read_json(temporary.path() / "out/config.json").at("dtype"), "bfloat16");
  }
}

// A mixed model: layers of other widths, one that is left out, and a quantized head.
std::vector<TestLayer> mixed_layers(bool symmetric) {
  return {random_layer("model.layers.0.self_attn.q_proj", 4, 32, 128, 64, true),
          random_layer("model.layers.0.self_attn.k_proj", 8, 32, 128, 32, true),
          random_layer("model.layers.1.self_attn.q_proj", 4, 32, 128, 64, symmetric),
          random_layer("lm_head", 4, 64, 128, 64, true)};
}

TEST(MixedConfig, OfAutoRound) {
  const FormatPlugin format("auto_round");
  for (bool symmetric : {true, false}) {
    const TempFolder temporary;
    const auto layers = mixed_layers(symmetric);
    write_export(format, temporary.path() / "out", layers, {"model.layers.1.mlp.gate", "model.vision.proj"});
    const auto config = read_json(temporary.path() / "out/config.json").at("quantization_config");
    EXPECT_EQ(config.at("packing_format"), symmetric ? "auto_round:auto_gptq" : "auto_round");
    EXPECT_EQ(config.at("block_name_to_quantize"), "model.layers");
    nlohmann::json extra{
        {"model.layers.0.self_attn.k_proj", {{"bits", 8}, {"group_size", 32}, {"sym", true}, {"data_type", "int"}}},
        {"lm_head", {{"bits", 4}, {"group_size", 64}, {"sym", true}, {"data_type", "int"}}},
        {"model.layers.1.mlp.gate", {{"bits", 16}, {"data_type", "float"}}}};
    if (!symmetric) {
      extra["model.layers.1.self_attn.q_proj"] = {
          {"bits", 4}, {"group_size", 64}, {"sym", false}, {"data_type", "int"}};
    }
    EXPECT_EQ(config.at("extra_config"), extra);
    const TestReader reader(format, temporary.path() / "out");
    for (const auto& layer : layers) expect_same_weights(reader, layer);
  }
}

TEST(MixedConfig, OfAutoGptq) {
  const FormatPlugin format("auto_gptq");
  const TempFolder temporary;
  const auto layers = mixed_layers(true);
  write_export(format, temporary.path() / "out", layers, {"model.layers.1.mlp.gate"});
  const auto config = read_json(temporary.path() / "out/config.json").at("quantization_config");
  EXPECT_EQ(config.at("quant_method"), "gptq");
  EXPECT_EQ(config.at("desc_act"), false);
  EXPECT_EQ(config.at("lm_head"), true);
  EXPECT_EQ(config.at("modules_in_block_to_quantize"),
            nlohmann::json::parse(R"([["self_attn.k_proj", "self_attn.q_proj"]])"));
  EXPECT_EQ(config.at("dynamic"), nlohmann::json::parse(R"({
    "+:^model\\.layers\\.0\\.self_attn\\.k_proj$": {"bits": 8, "group_size": 32, "sym": true},
    "+:^lm_head$": {"bits": 4, "group_size": 64, "sym": true},
    "-:^model\\.layers\\.1\\.mlp\\.gate$": {}})"));
  const TestReader reader(format, temporary.path() / "out");
  for (const auto& layer : layers) expect_same_weights(reader, layer);
}

TEST(MixedConfig, OfAutoAwq) {
  const FormatPlugin format("auto_awq");
  for (bool symmetric : {true, false}) {
    const TempFolder temporary;
    const std::vector layers{random_layer("model.layers.0.self_attn.q_proj", 4, 32, 128, 64, true),
                             random_layer("model.layers.1.self_attn.q_proj", 4, 64, 128, 64, symmetric)};
    write_export(format, temporary.path() / "out", layers, {"model.layers.1.mlp.gate", "model.vision.proj", "lm_head"});
    const auto config = read_json(temporary.path() / "out/config.json").at("quantization_config");
    EXPECT_EQ(config.at("quant_method"), "awq");
    EXPECT_EQ(config.at("version"), "gemm");
    EXPECT_EQ(config.at("bits"), 4);
    EXPECT_EQ(config.at("group_size"), 64);
    EXPECT_EQ(config.at("zero_point"), true);
    EXPECT_EQ(config.at("sym"), symmetric);
    EXPECT_EQ(config.at("to_quant_block_names"), "model.layers");
    EXPECT_EQ(config.at("modules_to_not_convert"),
              nlohmann::json::parse(R"(["model.layers.1.mlp.gate", "model.vision.proj", "lm_head"])"));
    const TestReader reader(format, temporary.path() / "out");
    for (const auto& layer : layers) expect_same_weights(reader, layer);
  }
}

TEST(MixedConfig, ThatAwqCannotSay) {
  const FormatPlugin format("auto_awq");
  const TempFolder temporary;
  const auto begin = [&](const char* name, int64_t group_size) -> std::string {
    const auto first = random_layer("model.layers.0.self_attn.q_proj", 4, 32, 128, 64, true);
    try {
      TestExport(format, temporary.path() / "out", {first, random_layer(name, 4, 32, 128, group_size, true)});
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_EQ(begin("model.layers.0.mlp.up_proj", 64), "");
  EXPECT_EQ(begin("model.layers.0.mlp.up_proj", -1),
            "it allows one group size per checkpoint: most layers of this plan "
            "have 64, this one has -1");
  EXPECT_EQ(begin("model.layers.0.mlp.up_proj", 32),
            "it allows one group size per checkpoint: most layers of this plan "
            "have 64, this one has 32");
  EXPECT_NE(begin("lm_head", 64).find("the engines that read this format know no quantized layer outside the blocks"),
            std::string::npos);
}

TEST(WriteRead, CopiesTensorsOfEveryTypeByteForByte) {
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const DType dtype :
       {DType::kF64,        DType::kF32,    DType::kF16,    DType::kBF16,   DType::kI64,    DType::kI32,
        DType::kI16,        DType::kI8,     DType::kU64,    DType::kU32,    DType::kU16,    DType::kU8,
        DType::kBool,       DType::kC64,    DType::kF8E4M3, DType::kF8E5M2, DType::kF8E8M0, DType::kF8E4M3Fnuz,
        DType::kF8E5M2Fnuz, DType::kF6E2M3, DType::kF6E3M2, DType::kF4E2M1}) {
    Tensor tensor(dtype, {2, 4});
    for (size_t i = 0; i < tensor.bytes(); ++i) tensor.as<uint8_t>()[i] = static_cast<uint8_t>(37 * i + 200);
    tensors.emplace_back("extra." + std::string(safetensors_name(dtype)), tensor);
  }
  const TestLayer layer = random_layer(kName, 4, 32, 64, 32, true);
  const EncodedLayer encoded{kName,
                             32,
                             64,
                             {RH_ENCODING_AFFINE_INT,
                              {{"bits", 4}, {"group_cols", 32}, {"group_rows", 1}, {"symmetric", true}},
                              {{"codes", layer.codes}, {"scale", layer.scale}}}};
  for (const char* name : {"auto_round", "auto_gptq", "auto_awq", "llm_compressor"}) {
    SCOPED_TRACE(name);
    const FormatPlugin format(name);
    const TempFolder temporary;
    ASSERT_EQ(write(format, temporary.path() / "out", {encoded}, {}, nlohmann::json::object(), tensors), "");
    const TestReader reader(format, temporary.path() / "out");
    for (const auto& [key, tensor] : tensors) expect_same_bits(reader.read(key), tensor, key);
  }
}

// Fifteen names were copied, and all else was lost.
TEST(WriteRead, WhatLiesBesideTheWeightsComesAlong) {
  const TempFolder source, temporary;
  const std::vector<std::string>
      copied = {"tokenizer.json",
                "tekken.json",
                "configuration_own.py",
                "LICENSE",
                "additional_chat_templates/tool_use.jinja",
                "1_Pooling/config.json"},
      left = {"quantize_config.json",  ".gitattributes",  "README.md",        "pytorch_model.bin.index.json",
              "training_args.bin",     "onnx/model.onnx", "onnx/config.json", "onnx/vocab.txt",
              "roundhouse/report.html"};
  for (const std::vector<std::string>& names : {copied, left})
    for (const std::string& name : names) {
      std::filesystem::create_directories((source.path() / name).parent_path());
      std::ofstream(source.path() / name) << name;
    }
  for (const char* name : {"auto_round", "auto_gptq", "fake"}) {
    SCOPED_TRACE(name);
    const FormatPlugin format(name);
    const auto layer = random_layer(kName, 4, 32, 64, 32, true);
    TestExport target(format, temporary.path() / name, {layer}, {}, source.path());
    ASSERT_EQ(target.add_layer(layer), "");
    ASSERT_EQ(target.finish(), "");
    for (const std::string& file : copied) EXPECT_TRUE(std::filesystem::exists(temporary.path() / name / file)) << file;
    for (const std::string& file : left) EXPECT_FALSE(std::filesystem::exists(temporary.path() / name / file)) << file;
  }
}

TEST(WriteRead, RefusesWhatFloat16CannotHold) {
  const TempFolder temporary;
  const FormatPlugin format("auto_round");
  auto layer = random_layer(kName, 4, 32, 64, 32, true, DType::kF32);
  layer.scale.as<float>()[3] = 70000.0f;
  {
    TestExport target(format, temporary.path() / "out", {layer});
    EXPECT_EQ(target.add_layer(layer),
              kName + ": scale 70000 does not fit into float16, which this format stores; leave the layer unquantized");
    layer.scale.as<float>()[3] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_NE(target.add_layer(layer).find("scale nan"), std::string::npos);
  }
  EXPECT_FALSE(std::filesystem::exists(temporary.path() / "out"));  // aborted
}

TEST(WriteRead, RefusesCodesOfTooManyBits) {
  const TempFolder temporary;
  const FormatPlugin format("auto_gptq");
  auto layer = random_layer(kName, 4, 32, 64, 32, true);
  layer.codes.as<uint8_t>()[7] = 16;
  TestExport target(format, temporary.path() / "out", {layer});
  EXPECT_EQ(target.add_layer(layer), kName + ": a code does not fit into 4 bits");
}

}  // namespace
}  // namespace roundhouse::formats
