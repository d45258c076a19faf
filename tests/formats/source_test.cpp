// SPDX-License-Identifier: Apache-2.0
// Checkpoints that others publish are read as their own libraries read them. make_sources.py made them.
#include <cmath>
#include <cstring>
#include <fstream>
#include <roundhouse/encoding/decode.hpp>

#include "host/abi/services.h"
#include "host/checkpoint/safetensors.h"
#include "host/checkpoint/writer.h"
#include "tests/formats/format_fixture.h"

namespace roundhouse::formats {
namespace {

struct Source {
  const char* folder;
  const char* format;
  double tolerance = 0;  // relative; 0: bit for bit
};

const Source kSources[] = {
    {"awq_old", "auto_awq"},
    {"ct_float", "llm_compressor"},
    {"ct_int", "llm_compressor"},
    {"ct_mxfp4", "llm_compressor"},
    {"ct_nvfp4", "llm_compressor", 0x1p-7},  // compressed-tensors computes its weights in bfloat16
    {"ct_old", "llm_compressor"},
    {"ct_pack", "llm_compressor"},
    {"ct_pack_asym", "llm_compressor"},
    {"fp8_autofp8", "fp8"},
    {"fp8_block", "fp8"},
    {"fp8_experts", "fp8"},
    {"fp8_fbgemm", "fp8"},
    {"fp8_static", "fp8"},
    {"fp8_ue8m0", "fp8"},
    {"gptq_desc_act", "auto_gptq"},
    {"gptq_desc_act_asym", "auto_gptq"},
    {"gptq_old", "auto_gptq"},
    {"gptq_v2", "auto_gptq"},
    {"modelopt_fp8", "modelopt"},
    {"modelopt_nvfp4", "modelopt"},
    {"mxfp4", "mxfp4"},
};

std::filesystem::path sources() { return std::filesystem::path(TEST_DATA) / "sources"; }

// The weight that a layer's encoding decodes to, as the host does it.
Tensor decoded(const TestReader& reader, const std::string& name, DType dtype) {
  const rh_item item = reader.item(name);
  std::vector<Tensor> tensors;
  for (uint32_t i = 0; i < item.encoding->tensor_count; ++i) {
    const rh_tensor_spec& spec = *item.encoding->tensors[i];
    tensors.emplace_back(from_rh(spec.dtype), std::vector<int64_t>(spec.shape, spec.shape + spec.ndim));
  }
  std::vector<rh_tensor> views;
  for (const Tensor& tensor : tensors) views.push_back(tensor.view());
  std::vector<rh_tensor*> pointers;
  for (rh_tensor& view : views) pointers.push_back(&view);
  const std::string failure = reader.read_encoded(name, pointers);
  if (!failure.empty()) throw Error(failure);
  rh::host_slot() = host_table();
  Tensor weight(dtype, {item.shape, item.shape + item.ndim});
  rh_tensor output = weight.view();
  rh::decode(*item.encoding, pointers.data(), output);
  return weight;
}

void expect_equal(const Tensor& actual, const Tensor& expected, double tolerance, const std::string& what) {
  ASSERT_EQ(actual.dtype(), expected.dtype()) << what;
  ASSERT_EQ(actual.shape(), expected.shape()) << what;
  if (tolerance == 0) {
    EXPECT_EQ(std::memcmp(actual.data(), expected.data(), expected.bytes()), 0) << what;
    return;
  }
  const Tensor a = actual.to(DType::kF32), b = expected.to(DType::kF32);
  for (int64_t i = 0; i < a.elements(); ++i)
    ASSERT_LE(std::abs(a.as<float>()[i] - b.as<float>()[i]), tolerance * std::abs(b.as<float>()[i]))
        << what << " " << i;
}

class SourceCheckpoint : public testing::TestWithParam<Source> {};

TEST_P(SourceCheckpoint, IsClaimedByItsFormatOnly) {
  const std::string folder = sources() / GetParam().folder;
  for (const char* name :
       {"auto_round", "auto_gptq", "auto_awq", "fp8", "gguf", "llm_compressor", "modelopt", "mxfp4"}) {
    const FormatPlugin format(name);
    EXPECT_EQ(format->probe(format.get(), folder.c_str()) > 0, std::string(name) == GetParam().format) << name;
  }
}

TEST_P(SourceCheckpoint, HasTheWeightsOfItsOwnLibrary) {
  const auto folder = sources() / GetParam().folder;
  const FormatPlugin format(GetParam().format);
  const TestReader reader(format, folder);
  ASSERT_EQ(reader.error(), "");
  SafetensorsFolder expected(folder / "expected.safetensors");
  std::vector<std::string> names = reader.names(), wanted = expected.names();
  std::sort(names.begin(), names.end());
  std::sort(wanted.begin(), wanted.end());
  ASSERT_EQ(names, wanted);
  for (const std::string& name : names) {
    const Tensor weight = expected.load(name);
    expect_equal(reader.read(name, weight.dtype()), weight, GetParam().tolerance, name);
    if (reader.item(name).kind != RH_ITEM_LAYER) continue;
    // nvfp/1 divides by a global scale with which ModelOpt multiplies.
    const bool divides = std::string(GetParam().folder) == "modelopt_nvfp4";
    expect_equal(decoded(reader, name, weight.dtype()), weight, divides ? 0x1p-21 : GetParam().tolerance, name);
  }
}

INSTANTIATE_TEST_SUITE_P(Made, SourceCheckpoint, testing::ValuesIn(kSources),
                         [](const auto& info) { return info.param.folder; });

nlohmann::json activation(const TestReader& reader, const std::string& name) {
  const rh_encoding* encoding = reader.item(name).activation_encoding;
  return encoding ? nlohmann::json::parse(encoding->parameters_json) : nlohmann::json();
}

TEST(SourceInputs, AreAsTheEngineQuantizesThem) {
  const std::string layer = "model.layers.0.self_attn.q_proj.weight";
  const auto input = [&](const char* format, const char* folder) {
    return activation(TestReader(FormatPlugin(format), sources() / folder), layer);
  };
  const nlohmann::json fixed{{"element", "e4m3"}, {"group_rows", 0}, {"group_cols", 32}, {"dynamic", false}};
  EXPECT_EQ(input("fp8", "fp8_static"), fixed);
  EXPECT_EQ(input("fp8", "fp8_autofp8"), fixed);
  EXPECT_EQ(input("modelopt", "modelopt_fp8"), fixed);
  EXPECT_EQ(input("fp8", "fp8_fbgemm"),
            (nlohmann::json{{"element", "e4m3"}, {"group_rows", 1}, {"group_cols", 32}, {"dynamic", true}}));
  EXPECT_EQ(input("fp8", "fp8_block"),
            (nlohmann::json{{"element", "e4m3"}, {"group_rows", 1}, {"group_cols", 32}, {"dynamic", true}}));
  EXPECT_EQ(input("modelopt", "modelopt_nvfp4"), nlohmann::json());
}

// A copy of compressed-tensors' checkpoint, its targets in Python's syntax alone, and nothing said that is a default.
TEST(SourceConfig, IsReadAsPythonReadsIt) {
  const TempFolder temporary;
  const auto folder = temporary.path() / "model";
  std::filesystem::copy(sources() / "ct_pack", folder);
  nlohmann::json config = read_json(folder / "config.json");
  for (auto& [name, group] : config.at("quantization_config").at("config_groups").items()) {
    for (const char* key : {"type", "symmetric", "strategy", "dynamic"}) group.at("weights").erase(key);
    group.erase("input_activations");
  }
  config["quantization_config"]["config_groups"]["group_1"]["targets"] = {
      R"(re:(?i)model\.LAYERS\.\d+\.(?P<part>mlp)\.(?<!_)(gate|up|down)_proj\Z)"};
  std::ofstream(folder / "config.json") << config;
  const FormatPlugin format("llm_compressor");
  const TestReader reader(format, folder);
  ASSERT_EQ(reader.error(), "");
  SafetensorsFolder expected(folder / "expected.safetensors");
  for (const std::string& name : expected.names()) {
    const Tensor weight = expected.load(name);
    expect_equal(reader.read(name, weight.dtype()), weight, 0, name);
  }
}

TEST(SourceStack, SaysWhichExpertALayerIs) {
  for (const auto& [format, folder, count] : {std::tuple{"mxfp4", "mxfp4", 3}, {"fp8", "fp8_experts", 2}}) {
    const FormatPlugin plugin(format);
    const TestReader reader(plugin, sources() / folder);
    const rh_item item = reader.item(cat("model.layers.0.mlp.experts.", count - 1, ".gate_up_proj.weight"));
    ASSERT_NE(item.stack, nullptr) << folder;
    EXPECT_STREQ(item.stack->name, "model.layers.0.mlp.experts.gate_up_proj");
    EXPECT_EQ(item.stack->index, count - 1);
    EXPECT_EQ(item.stack->count, count);
  }
}

// A format that is only read lists no encoding, and refuses a plan.
TEST(ReadOnlyFormats, WriteNothing) {
  for (const char* name : {"modelopt", "mxfp4"}) {
    const FormatPlugin format(name);
    EXPECT_EQ(format->descriptor->encoding_count, 0u) << name;
    TestPlan plan;
    plan.add_tensor("model.norm.weight", {8}, DType::kF32);
    EXPECT_NE(plan.refusal(format).find("only read"), std::string::npos) << plan.refusal(format);
  }
}

struct Refusal {
  const char* name;
  const char* format;
  const char* quantization;
  std::vector<std::pair<const char*, Tensor>> tensors;  // of the layer "l"
  const char* message;
};

const Refusal kRefusals[] = {
    {"AwqGemv", "auto_awq", R"({"quant_method": "awq", "version": "gemv_fast"})", {}, "version gemv_fast"},
    {"AwqLlmAwq",
     "auto_awq",
     R"({"quant_method": "awq", "version": "gemm", "backend": "llm-awq"})",
     {},
     "backend llm-awq"},
    {"GptqMarlin",
     "auto_gptq",
     R"({"quant_method": "gptq", "checkpoint_format": "marlin"})",
     {},
     "checkpoint_format marlin is not read"},
    {"Sparse",
     "llm_compressor",
     R"({"quant_method": "compressed-tensors", "config_groups": {}, "sparsity_config": {"format": "sparse-24-bitmask"}})",
     {},
     "sparse format sparse-24-bitmask"},
    {"Marlin24",
     "llm_compressor",
     R"({"quant_method": "compressed-tensors", "config_groups": {}, "format": "marlin-24"})",
     {},
     "sparse format marlin-24"},
    {"Rotated",
     "llm_compressor",
     R"({"quant_method": "compressed-tensors", "config_groups": {}, "transform_config": {"config_groups": {"R1": {}}}})",
     {},
     "transform_config: the weights are rotated"},
    {"Fp8Scheme", "fp8", R"({"quant_method": "fp8", "activation_scheme": "local"})", {}, "activation_scheme is local"},
    {"Fp8Block", "fp8", R"({"quant_method": "fp8", "weight_block_size": [128]})", {}, "weight_block_size is not two"},
    {"Fp8NoRange",
     "fp8",
     R"({"quant_method": "fp8", "activation_scheme": "static"})",
     {{"weight", Tensor(DType::kF8E4M3, {4, 8})}, {"weight_scale", Tensor(DType::kF32, {1})}},
     "l: activation_scheme is static, but it has neither"},
    {"Fp8Scale",
     "fp8",
     R"({"quant_method": "fp8", "weight_block_size": [2, 2]})",
     {{"weight", Tensor(DType::kF8E4M3, {4, 8})}, {"weight_scale", Tensor(DType::kF32, {2, 3})}},
     "its scale [2, 3] is not one number, one for each of 4 rows, or one for each block of 2 x 2"},
    {"Fp8Bytes",
     "fp8",
     R"({"quant_method": "fp8"})",
     {{"weight", Tensor(DType::kU8, {4, 8})}, {"weight_scale", Tensor(DType::kF32, {1})}},
     "no matrix of 8-bit floats"},
    {"BlocksWithoutScales",
     "mxfp4",
     R"({"quant_method": "mxfp4"})",
     {{"up_proj_blocks", Tensor(DType::kU8, {2, 4, 1, 16})}},
     "l.0.up_proj: its scale is missing"},
    {"BlocksOfOtherGroups",
     "mxfp4",
     R"({"quant_method": "mxfp4"})",
     {{"up_proj_blocks", Tensor(DType::kU8, {2, 4, 1, 16})}, {"up_proj_scales", Tensor(DType::kU8, {2, 4, 2})}},
     "l.0.up_proj: scale [4, 2] should have 4 elements"},
    {"ScalesOfOtherExperts",
     "mxfp4",
     R"({"quant_method": "mxfp4"})",
     {{"up_proj_blocks", Tensor(DType::kU8, {2, 4, 1, 16})}, {"up_proj_scales", Tensor(DType::kU8, {3, 4, 1})}},
     "l.up_proj_scales: its first axis is not that of 2 experts"},
    {"NoExperts",
     "mxfp4",
     R"({"quant_method": "mxfp4"})",
     {{"up_proj_blocks", Tensor(DType::kU8, {0, 4, 1, 16})}, {"up_proj_scales", Tensor(DType::kU8, {0, 4, 1})}},
     "l.up_proj: it has no experts"},
    {"ModelOptAwq",
     "modelopt",
     R"({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"})",
     {{"weight", Tensor(DType::kU8, {4, 8})},
      {"weight_scale", Tensor(DType::kF8E4M3, {4, 1})},
      {"weight_scale_2", Tensor(DType::kF32, {1})},
      {"pre_quant_scale", Tensor(DType::kF32, {16})}},
     "l has a pre_quant_scale"},
    {"ModelOptInt4",
     "modelopt",
     R"({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"})",
     {{"weight", Tensor(DType::kU8, {4, 8})}, {"weight_scale", Tensor(DType::kF32, {4, 1})}},
     "packed weights without weight_scale_2"},
    // Its tensors have NVFP4's names.
    {"ModelOptAlgorithm",
     "modelopt",
     R"({"quant_method": "modelopt", "quant_algo": "W4A8_AWQ"})",
     {{"weight", Tensor(DType::kU8, {2, 128})},
      {"weight_scale", Tensor(DType::kF32, {4, 1})},
      {"weight_scale_2", Tensor(DType::kF32, {1})}},
     ": ModelOpt's quant_algo W4A8_AWQ is not read; FP8, FP8_PER_CHANNEL_PER_TOKEN, FP8_PB_WO, MXFP8, NVFP4, "
     "W4A16_NVFP4, MIXED_PRECISION are. Start from the model before the quantization"},
    {"ModelOptAlgorithmOfALayer",
     "modelopt",
     R"({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION",
         "quantized_layers": {"k": {"quant_algo": "fp8_pb_wo"}, "l": {"quant_algo": "NVFP4_SVD"}}})",
     {},
     ": l: ModelOpt's quant_algo NVFP4_SVD is not read"},
    {"unknown_preset",
     "llm_compressor",
     R"({"quant_method": "compressed-tensors", "format": "int-quantized", "config_groups": {"W8A8": ["Linear"]}})",
     {},
     "config_groups: W8A8 is the name of a preset"},
    {"strategy_without_group_size",
     "llm_compressor",
     R"({"quant_method": "compressed-tensors", "format": "int-quantized",
         "config_groups": {"a": {"targets": ["Linear"], "weights": {"strategy": "group"}}}})",
     {},
     "config_groups: a: weights: the strategy group needs a group_size above 0"},
    {"bits_as_text",
     "llm_compressor",
     R"({"quant_method": "compressed-tensors", "format": "int-quantized",
         "config_groups": {"a": {"targets": ["Linear"], "weights": {"num_bits": "4"}}}})",
     {},
     "config_groups: a: weights: num_bits is \"4\", not a number"},
    {"broken_pattern",
     "llm_compressor",
     R"({"quant_method": "compressed-tensors", "format": "int-quantized",
         "config_groups": {"a": {"targets": ["re:(unfinished"], "weights": {}}}})",
     {},
     "\"(unfinished\" is not a regular expression: end pattern with unmatched parenthesis"},
};

class RefusedSource : public testing::TestWithParam<Refusal> {};

TEST_P(RefusedSource, SaysWhy) {
  const TempFolder temporary;
  const auto out = temporary.path() / "model";
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const auto& [name, tensor] : GetParam().tensors) tensors.emplace_back(cat("l.", name), tensor);
  if (tensors.empty()) tensors.emplace_back("l.bias", Tensor(DType::kF32, {1}));
  OutputFolder folder(out, false);
  write_safetensors_file(folder.partial() / "model.safetensors", tensors);
  folder.write_text("config.json", cat(R"({"quantization_config": )", GetParam().quantization, "}"));
  folder.finish();
  const FormatPlugin format(GetParam().format);
  EXPECT_GT(format->probe(format.get(), out.c_str()), 0);
  const TestReader reader(format, out);
  EXPECT_NE(reader.error().find(GetParam().message), std::string::npos) << reader.error();
  EXPECT_NE(reader.error().find(out.string()), std::string::npos) << reader.error();
}

TEST(SourceCache, WhereItAloneIsQuantizedWeightsAreAsTheyAre) {
  const TempFolder temporary;
  OutputFolder folder(temporary.path() / "model", false);
  const Tensor scale(DType::kF32, {1});
  write_safetensors_file(
      folder.partial() / "model.safetensors",
      {{"l.k_proj.weight", Tensor(DType::kF32, {4, 8})}, {"l.k_scale", scale}, {"l.v_scale", scale}});
  folder.write_text("config.json", "{}");
  folder.write_text("hf_quant_config.json", R"({"producer": {"name": "modelopt"},
                                                "quantization": {"quant_algo": null, "kv_cache_quant_algo": "FP8"}})");
  folder.finish();
  const FormatPlugin format("modelopt");
  const TestReader reader(format, temporary.path() / "model");
  ASSERT_EQ(reader.error(), "");
  EXPECT_EQ(reader.names(), std::vector<std::string>{"l.k_proj.weight"});
}

INSTANTIATE_TEST_SUITE_P(Forms, RefusedSource, testing::ValuesIn(kRefusals),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace roundhouse::formats
