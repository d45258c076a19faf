// SPDX-License-Identifier: Apache-2.0
// The format llm_compressor: the reference's exports come back bit for bit, and so does what data types may emit.
#include <cmath>
#include <functional>
#include <map>

#include "host/checkpoint/safetensors.h"
#include "host/checkpoint/writer.h"
#include "kernels/floats.h"
#include "tests/formats/encoded_fixture.h"

namespace roundhouse::formats {
namespace {

using nlohmann::json;

const std::string kLayer = "model.layers.0.mlp.down_proj";
const json kTokenInt8{{"bits", 8}, {"symmetric", true}, {"group_rows", 1}, {"group_cols", 128}, {"dynamic", true}};
const json kTensorFp8{{"element", "e4m3"}, {"group_rows", 0}, {"group_cols", 128}, {"dynamic", false}};

// An unquantized layer.
const std::vector<std::pair<std::string, Tensor>> kHead{{"lm_head.weight", Tensor(DType::kBF16, {8, 32})}};

const FormatPlugin& plugin() {
  static const FormatPlugin format("llm_compressor");
  return format;
}

Tensor bytes(int64_t rows, int64_t cols) { return random_codes(rows, cols, 8); }

EncodedLayer integers(int bits, int64_t rows, int64_t cols, int64_t group_size, bool symmetric) {
  const int64_t group_cols = group_size < 0 ? cols : group_size, groups = (cols + group_cols - 1) / group_cols;
  EncodedLayer layer{
      kLayer,
      rows,
      cols,
      {"affine-int/1",
       {{"bits", bits}, {"group_cols", group_cols}, {"group_rows", 1}, {"symmetric", symmetric}},
       {{"codes", random_codes(rows, cols, bits)}, {"scale", random_scales({rows, groups}, DType::kF16)}}}};
  if (!symmetric) layer.weight.tensors.emplace_back("zero_point", random_codes(rows, groups, bits));
  return layer;
}

// Blocks of rows x cols that share a scale.
EncodedLayer fp8(int64_t rows, int64_t cols, int64_t group_rows, int64_t group_cols, DType scale = DType::kF32) {
  const int64_t wide = group_cols == RH_GROUP_ROW || group_cols == RH_GROUP_TENSOR ? cols : group_cols;
  const int64_t high = group_cols == RH_GROUP_TENSOR ? rows : group_rows;
  return {kLayer,
          rows,
          cols,
          {"scaled-fp8/1",
           {{"element", "e4m3"}, {"group_rows", high}, {"group_cols", wide}},
           {{"codes", bytes(rows, cols)},
            {"scale", random_scales({(rows + high - 1) / high, (cols + wide - 1) / wide}, scale)}}}};
}

EncodedLayer mx(const std::string& element, int bits, int64_t rows, int64_t cols, int64_t group_cols = 32) {
  return {kLayer,
          rows,
          cols,
          {"mx/1",
           {{"element", element}, {"group_cols", group_cols}},
           {{"codes", random_codes(rows, cols, bits)}, {"scale", bytes(rows, (cols + group_cols - 1) / group_cols)}}}};
}

EncodedLayer nvfp(const std::string& scale, int64_t rows, int64_t cols, int64_t group_cols = 16) {
  EncodedLayer layer{kLayer,
                     rows,
                     cols,
                     {"nvfp/1",
                      {{"scale", scale}, {"group_cols", group_cols}},
                      {{"codes", random_codes(rows, cols, 4)}, {"scale", bytes(rows, cols / group_cols)}}}};
  if (scale == "e4m3") layer.weight.tensors.emplace_back("global_scale", random_scales({1}));
  return layer;
}

EncodedLayer with_input(EncodedLayer layer, Encoded activation) {
  layer.activation = std::move(activation);
  return layer;
}

json quantization_of(const std::filesystem::path& folder) {
  return read_json(folder / "config.json").at("quantization_config");
}

// ---- the reference's exports ----

class LlmCompressorGolden : public testing::TestWithParam<const char*> {};

TEST_P(LlmCompressorGolden, ComesBackBitForBit) {
  const auto golden = exports() / GetParam();
  EXPECT_GT(plugin()->probe(plugin().get(), golden.c_str()), 0);
  const TestReader reader(plugin(), golden);
  ASSERT_EQ(reader.error(), "");
  std::vector<EncodedLayer> layers;
  for (const auto& name : reader.names()) {
    if (reader.item(name).kind == RH_ITEM_LAYER) layers.push_back(read_layer(reader, name));
  }
  ASSERT_EQ(layers.size(), 2u);
  const TempFolder temporary;
  const auto out = temporary.path() / "out";
  ASSERT_EQ(write(plugin(), out, layers, {}, json::object(), kHead), "");

  SafetensorsFolder expected(golden), written(out);
  size_t compared = 0;
  for (const auto& name : expected.names()) {
    if (name.ends_with("layernorm.weight")) continue;
    ASSERT_TRUE(written.contains(name)) << name;
    expect_same_bits(expected.load(name), written.load(name), name);
    ++compared;
  }
  EXPECT_EQ(compared + 1, written.names().size());  // lm_head

  json theirs = quantization_of(golden), ours = quantization_of(out);
  EXPECT_EQ(ours, read_json(out / "quantization_config.json"));
  EXPECT_EQ(ours.at("ignore"), json::array({"lm_head"}));
  for (const char* key : {"quant_method", "format", "quantization_status", "kv_cache_scheme"}) {
    EXPECT_EQ(ours.at(key), theirs.at(key)) << key;
  }
  json group = theirs.at("config_groups").at("group_0");
  group["format"] = theirs.at("format");  // the reference leaves it out in some
  EXPECT_EQ(ours.at("config_groups"), (json{{"group_0", group}}));
}

INSTANTIATE_TEST_SUITE_P(Reference, LlmCompressorGolden,
                         testing::Values("w4a16_llmc", "w4a16_asym_llmc", "int8_llmc", "fp8_static_llmc",
                                         "fp8_block_llmc", "mxfp4_llmc_rtn", "mxfp8_llmc", "nvfp4_llmc"),
                         [](const auto& info) { return std::string(info.param); });

float e4m3(uint8_t code) {
  const int exponent = code >> 3 & 15, mantissa = code & 7;
  const float magnitude = exponent ? std::ldexp(8.0f + mantissa, exponent - 10) : std::ldexp(1.0f * mantissa, -9);
  return code & 0x80 ? -magnitude : magnitude;
}

float e2m1(int code) {
  constexpr float kMagnitudes[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  return code & 8 ? -kMagnitudes[code & 7] : kMagnitudes[code & 7];
}

// The weight at [row, col] straight from the stored tensors of kLayer, [256, 512].
using Decode = std::function<float(const std::map<std::string, Tensor>&, int64_t, int64_t)>;

struct Stored {
  const char* folder;
  Decode weight;
};

uint8_t byte(const Tensor& tensor, int64_t i) { return tensor.as<uint8_t>()[i]; }
int nibble(const Tensor& packed, int64_t i) { return byte(packed, i / 2) >> i % 2 * 4 & 15; }
float bf16(const Tensor& tensor, int64_t i) { return kernels::float_from_bfloat(tensor.as<uint16_t>()[i]); }
float f16(const Tensor& tensor, int64_t i) { return kernels::float_from_half(tensor.as<uint16_t>()[i]); }

const Stored kStored[] = {
    {"w4a16_llmc",
     [](const auto& t, int64_t r, int64_t c) {
       return f16(t.at("weight_scale"), r * 4 + c / 128) *
              static_cast<float>(nibble(t.at("weight_packed"), r * 512 + c) - 8);
     }},
    {"w4a16_asym_llmc",
     [](const auto& t, int64_t r, int64_t c) {
       // Zero points of 8 rows in a word.
       const uint32_t word =
           static_cast<uint32_t>(t.at("weight_zero_point").template as<int32_t>()[r / 8 * 4 + c / 128]);
       const int zero_point = static_cast<int>(word >> r % 8 * 4 & 15);
       return f16(t.at("weight_scale"), r * 4 + c / 128) *
              static_cast<float>(nibble(t.at("weight_packed"), r * 512 + c) - zero_point);
     }},
    {"int8_llmc",
     [](const auto& t, int64_t r, int64_t c) {
       return f16(t.at("weight_scale"), r) * static_cast<float>(t.at("weight").template as<int8_t>()[r * 512 + c]);
     }},
    {"fp8_static_llmc",
     [](const auto& t, int64_t r, int64_t c) {
       return e4m3(byte(t.at("weight"), r * 512 + c)) * bf16(t.at("weight_scale"), r);
     }},
    {"fp8_block_llmc",
     [](const auto& t, int64_t r, int64_t c) {
       return e4m3(byte(t.at("weight"), r * 512 + c)) * bf16(t.at("weight_scale"), r / 128 * 4 + c / 128);
     }},
    {"mxfp4_llmc_rtn",
     [](const auto& t, int64_t r, int64_t c) {
       return std::ldexp(e2m1(nibble(t.at("weight_packed"), r * 512 + c)),
                         byte(t.at("weight_scale"), r * 16 + c / 32) - 127);
     }},
    {"mxfp8_llmc",
     [](const auto& t, int64_t r, int64_t c) {
       return std::ldexp(e4m3(byte(t.at("weight"), r * 512 + c)), byte(t.at("weight_scale"), r * 16 + c / 32) - 127);
     }},
    {"nvfp4_llmc",
     [](const auto& t, int64_t r, int64_t c) {
       const float inverse = 1.0f / t.at("weight_global_scale").template as<float>()[0];
       return e2m1(nibble(t.at("weight_packed"), r * 512 + c)) *
              (e4m3(byte(t.at("weight_scale"), r * 32 + c / 16)) * inverse);
     }},
};

TEST(LlmCompressor, DecodesTheReferencesBits) {
  for (const Stored& stored : kStored) {
    SCOPED_TRACE(stored.folder);
    const TestReader reader(plugin(), exports() / stored.folder);
    ASSERT_EQ(reader.error(), "");
    SafetensorsFolder file(exports() / stored.folder);
    std::map<std::string, Tensor> parts;
    for (const auto& name : file.names()) {
      if (name.starts_with(kLayer + ".")) parts[name.substr(kLayer.size() + 1)] = file.load(name);
    }
    const Tensor weight = reader.read(kLayer + ".weight", DType::kF32);
    ASSERT_EQ(weight.shape(), (std::vector<int64_t>{256, 512}));
    for (int64_t r = 0; r < 256; r += 3) {
      for (int64_t c = 0; c < 512; c += 5) {
        ASSERT_EQ(weight.as<float>()[r * 512 + c], stored.weight(parts, r, c)) << "[" << r << ", " << c << "]";
      }
    }
  }
}

TEST(LlmCompressor, ReadsWhatIsDoneToInputs) {
  const auto read = [](const char* folder) {
    const TestReader reader(plugin(), exports() / folder);
    return read_layer(reader, kLayer + ".weight").activation;
  };
  EXPECT_FALSE(read("w4a16_llmc"));
  EXPECT_EQ(read("int8_llmc")->id, "affine-int/1");
  EXPECT_EQ(read("int8_llmc")->parameters.at("dynamic"), true);
  EXPECT_EQ(read("mxfp4_llmc_rtn")->parameters,
            (json{{"element", "fp4_e2m1"}, {"group_rows", 1}, {"group_cols", 32}, {"dynamic", true}}));
  EXPECT_EQ(read("fp8_block_llmc")->parameters,
            (json{{"element", "e4m3"}, {"group_rows", 1}, {"group_cols", 128}, {"dynamic", true}}));
  const auto fp8_input = read("fp8_static_llmc");
  EXPECT_EQ(fp8_input->parameters.at("group_rows"), 0);
  SafetensorsFolder file(exports() / "fp8_static_llmc");
  EXPECT_EQ(fp8_input->tensor("scale").as<float>()[0], bf16(file.load(kLayer + ".input_scale"), 0));
  const TestReader reader(plugin(), exports() / "fp8_static_llmc");
  EXPECT_EQ(json::parse(reader.item(kLayer + ".weight").encoding->parameters_json).at("group_rows"), 1);
}

// ---- what data types may emit ----

struct Case {
  const char* name;
  EncodedLayer layer;
  const char* format;
  std::vector<std::string> tensors;  // stored, without the layer's name, sorted
};

std::vector<Case> cases() {
  const std::vector<std::string> packed{"weight_packed", "weight_scale", "weight_shape"};
  const std::vector<std::string> packed_asym{"weight_packed", "weight_scale", "weight_shape", "weight_zero_point"};
  const std::vector<std::string> plain{"weight", "weight_scale"};
  std::vector<Case> all;
  for (int bits = 2; bits <= 8; ++bits) {
    all.push_back({"packed", integers(bits, 40, 96, 32, true), "pack-quantized", packed});
    all.push_back({"packed, asymmetric", integers(bits, 40, 96, 32, false), "pack-quantized", packed_asym});
    all.push_back({"a row of no whole words", integers(bits, 17, 20, -1, false), "pack-quantized", packed_asym});
  }
  all.push_back(
      {"W8A8", with_input(integers(8, 32, 128, -1, true), {"affine-int/1", kTokenInt8}), "int-quantized", plain});
  all.push_back({"W8A8, asymmetric",
                 with_input(integers(8, 32, 128, -1, false), {"affine-int/1", kTokenInt8}),
                 "int-quantized",
                 {"weight", "weight_scale", "weight_zero_point"}});
  all.push_back(
      {"W4A8", with_input(integers(4, 32, 128, 32, true), {"affine-int/1", kTokenInt8}), "int-quantized", plain});
  all.push_back(
      {"W4AFP8",
       with_input(integers(4, 32, 128, 128, true),
                  {"scaled-fp8/1", {{"element", "e4m3"}, {"group_rows", 1}, {"group_cols", 128}, {"dynamic", true}}}),
       "pack-quantized", packed});
  all.push_back({"fp8 weights only, of the tensor", fp8(24, 128, 1, RH_GROUP_TENSOR), "float-quantized", plain});
  all.push_back({"fp8 of rows, float16 scales", fp8(24, 128, 1, RH_GROUP_ROW, DType::kF16), "float-quantized", plain});
  all.push_back({"fp8 of groups", fp8(24, 128, 1, 64), "float-quantized", plain});
  all.push_back({"fp8 of blocks, the last rows fewer", fp8(200, 256, 128, 128), "float-quantized", plain});
  all.push_back({"fp8 of a block that is the layer", fp8(64, 128, 128, 128), "float-quantized", plain});
  all.push_back(
      {"fp8, static input",
       with_input(fp8(24, 128, 1, RH_GROUP_ROW), {"scaled-fp8/1", kTensorFp8, {{"scale", random_scales({1})}}}),
       "float-quantized",
       {"input_scale", "weight", "weight_scale"}});
  for (const auto& [element, bits] : {std::pair{"fp4_e2m1", 4}, {"fp6_e2m3", 6}, {"fp8_e4m3", 8}}) {
    const json input{{"element", element}, {"group_rows", 1}, {"group_cols", 32}, {"dynamic", true}};
    all.push_back({element, with_input(mx(element, bits, 24, 96), {"mx/1", input}),
                   bits == 8   ? "mxfp8-quantized"
                   : bits == 6 ? "mxfp6-pack-quantized"
                               : "mxfp4-pack-quantized",
                   bits == 8 ? plain : std::vector<std::string>{"weight_packed", "weight_scale"}});
  }
  all.push_back({"nvfp4 weights only",
                 nvfp("e4m3", 24, 96),
                 "nvfp4-pack-quantized",
                 {"weight_global_scale", "weight_packed", "weight_scale"}});
  all.push_back(
      {"nvfp4",
       with_input(nvfp("e4m3", 24, 96), {"nvfp/1",
                                         {{"scale", "e4m3"}, {"group_rows", 1}, {"group_cols", 16}, {"dynamic", false}},
                                         {{"global_scale", random_scales({1})}}}),
       "nvfp4-pack-quantized",
       {"input_global_scale", "weight_global_scale", "weight_packed", "weight_scale"}});
  all.push_back({"nvfp4 with e5m3",
                 with_input(nvfp("ue5m3", 24, 96),
                            {"nvfp/1", {{"scale", "ue5m3"}, {"group_rows", 1}, {"group_cols", 16}, {"dynamic", true}}}),
                 "nvfp4-e5m3-pack-quantized",
                 {"weight_packed", "weight_scale"}});
  return all;
}

TEST(LlmCompressor, GivesBackWhatItWrote) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name + std::string(", ") + c.layer.weight.parameters.dump());
    EXPECT_EQ(check(plugin(), c.layer), "");
    const TempFolder temporary;
    const auto out = temporary.path() / "out";
    ASSERT_EQ(write(plugin(), out, {c.layer}), "");
    EXPECT_EQ(quantization_of(out).at("format"), c.format);
    std::vector<std::string> names;
    for (const auto& name : SafetensorsFolder(out).names()) names.push_back(name.substr(kLayer.size() + 1));
    std::sort(names.begin(), names.end());
    EXPECT_EQ(names, c.tensors);
    const TestReader reader(plugin(), out);
    ASSERT_EQ(reader.error(), "");
    const EncodedLayer again = read_layer(reader, kLayer + ".weight");
    expect_same(again.weight, c.layer.weight);
    ASSERT_EQ(again.activation.has_value(), c.layer.activation.has_value());
    if (again.activation) expect_same(*again.activation, *c.layer.activation);
  }
}

TEST(LlmCompressor, DecodesWhatItWrote) {
  const TempFolder temporary;
  const EncodedLayer e5m3 = nvfp("ue5m3", 24, 96), blocks = fp8(200, 256, 128, 128), six = mx("fp6_e2m3", 6, 24, 96);
  const auto value = [&](const char* folder, const EncodedLayer& layer, int64_t r, int64_t c) {
    const auto out = temporary.path() / folder;
    EXPECT_EQ(write(plugin(), out, {layer}), "");
    const TestReader reader(plugin(), out);
    return reader.read(kLayer + ".weight", DType::kF32).as<float>()[r * layer.cols + c];
  };
  const auto stored = [](const EncodedLayer& layer, const char* name, int64_t i) {
    return byte(layer.weight.tensor(name), i);
  };
  // ue5m3 is e5m2's and e4m3's kin: 5 bits of exponent with bias 15, 3 of mantissa.
  const int scale = stored(e5m3, "scale", 7 * 6 + 2), exponent = scale >> 3;
  ASSERT_GT(exponent, 0);
  EXPECT_EQ(value("e5m3", e5m3, 7, 40),
            e2m1(stored(e5m3, "codes", 7 * 96 + 40)) * std::ldexp(8.0f + (scale & 7), exponent - 18));
  EXPECT_EQ(value("blocks", blocks, 199, 130),
            e4m3(stored(blocks, "codes", 199 * 256 + 130)) * blocks.weight.tensor("scale").as<float>()[3]);
  const int code = stored(six, "codes", 5 * 96 + 95), high = code >> 3 & 3;
  const float magnitude = high ? std::ldexp(8.0f + (code & 7), high - 4) : (code & 7) / 8.0f;
  EXPECT_EQ(value("six", six, 5, 95),
            std::ldexp(code & 32 ? -magnitude : magnitude, stored(six, "scale", 5 * 3 + 2) - 127));
}

// fp8 codes without a scale are for scale 1; the layout wants one all the same.
TEST(LlmCompressor, StoresAScaleOfOne) {
  EncodedLayer layer = fp8(8, 64, 1, RH_GROUP_ROW);
  layer.weight.tensors.pop_back();
  const TempFolder temporary;
  ASSERT_EQ(write(plugin(), temporary.path() / "out", {layer}), "");
  const TestReader reader(plugin(), temporary.path() / "out");
  const Encoded again = read_layer(reader, kLayer + ".weight").weight;
  expect_same_bits(again.tensor("codes"), layer.weight.tensor("codes"), "codes");
  ASSERT_EQ(again.tensor("scale").elements(), 1);
  EXPECT_EQ(again.tensor("scale").as<float>()[0], 1.0f);
}

TEST(LlmCompressor, TellsMixedSchemesByName) {
  EncodedLayer four = integers(4, 32, 128, 32, true), eight = integers(8, 32, 128, 32, true), more = four;
  EncodedLayer block = fp8(32, 128, 1, RH_GROUP_ROW);
  four.name = "model.layers.0.self_attn.q_proj";
  more.name = "model.layers.1.self_attn.q_proj";
  eight.name = "model.layers.0.mlp.up_proj";
  block.name = "lm_head";
  const TempFolder temporary;
  const auto out = temporary.path() / "out";
  ASSERT_EQ(write(plugin(), out, {four, eight, more}, {}, json::object(), kHead), "");
  json config = quantization_of(out);
  EXPECT_EQ(config.at("format"), "pack-quantized");
  EXPECT_EQ(config.at("ignore"), json::array({"lm_head"}));
  EXPECT_EQ(config.at("config_groups").at("group_0").at("targets"), json::array({four.name, more.name}));
  EXPECT_EQ(config.at("config_groups").at("group_1").at("targets"), json::array({eight.name}));
  const auto mixed = temporary.path() / "mixed";
  ASSERT_EQ(write(plugin(), mixed, {four, block}), "");
  config = quantization_of(mixed);
  EXPECT_EQ(config.at("format"), "mixed-precision");
  EXPECT_EQ(config.at("ignore"), json::array());
  EXPECT_EQ(config.at("config_groups").at("group_1").at("format"), "float-quantized");
  const TestReader reader(plugin(), mixed);
  expect_same(read_layer(reader, "lm_head.weight").weight, block.weight);
  expect_same(read_layer(reader, four.name + ".weight").weight, four.weight);
}

// vLLM's head is no Linear.
TEST(LlmCompressor, NamesTheHeadBesideTheClassOfLinearLayers) {
  EncodedLayer layer = integers(4, 32, 128, 32, true), head = layer;
  head.name = "lm_head";
  const TempFolder temporary;
  ASSERT_EQ(write(plugin(), temporary.path() / "out", {layer, head}), "");
  const json config = quantization_of(temporary.path() / "out");
  EXPECT_EQ(config.at("config_groups").at("group_0").at("targets"), json::array({"Linear", "lm_head"}));
  EXPECT_EQ(config.at("ignore"), json::array());
  const TestReader reader(plugin(), temporary.path() / "out");
  expect_same(read_layer(reader, "lm_head.weight").weight, head.weight);
}

TEST(LlmCompressor, RoundsIntegerScalesToTheOutputDtype) {
  EncodedLayer layer = integers(4, 32, 128, 32, true);
  layer.weight.tensors[1].second.as<uint16_t>()[0] = 0x3c01;  // 1 + 2^-10: between two of bfloat16's
  const TempFolder temporary;
  const auto out = temporary.path() / "out";
  ASSERT_EQ(write(plugin(), out, {layer}, {}, {{"output_dtype", "bfloat16"}}), "");
  const Tensor scale = SafetensorsFolder(out).load(kLayer + ".weight_scale");
  EXPECT_EQ(scale.dtype(), DType::kBF16);
  EXPECT_EQ(bf16(scale, 0), 1.0f);
  EXPECT_EQ(check(plugin(), layer, R"({"output_dtype": "float32"})"),
            "option output_dtype is float16 or bfloat16, not float32");
  layer.weight.tensors[1].second = Tensor(DType::kF32, {32, 4});
  layer.weight.tensors[1].second.as<float>()[5] = 1e5f;
  EXPECT_NE(write(plugin(), temporary.path() / "big", {layer}).find("set the format's option output_dtype to bfloat16"),
            std::string::npos);
  EXPECT_EQ(write(plugin(), temporary.path() / "big16", {layer}, {}, {{"output_dtype", "bfloat16"}}), "");
}

// ---- what it refuses ----

TEST(LlmCompressor, RefusesWithTheReason) {
  const auto changed = [](EncodedLayer layer, const std::function<void(EncodedLayer&)>& change) {
    change(layer);
    return layer;
  };
  const EncodedLayer plain = integers(4, 32, 128, 32, true);
  const std::pair<EncodedLayer, const char*> refusals[] = {
      {changed(plain, [](auto& l) { l.weight.parameters["group_rows"] = 32; }), "a scale for each row"},
      {changed(plain, [](auto& l) { l.weight.tensors.emplace_back("outer_scale", random_scales({1})); }),
       "second scale"},
      {integers(4, 32, 100, 32, true), "100 is not one of 32"},
      {changed(plain, [](auto& l) { l.weight.parameters["bits"] = 9; }), "affine-int/1 has no such parameters"},
      {changed(fp8(32, 128, 1, RH_GROUP_ROW), [](auto& l) { l.weight.parameters["element"] = "e5m2"; }), "no fp8_e5m2"},
      {fp8(128, 200, 128, 128), "200 is not one of 128"},
      {mx("fp6_e3m2", 6, 32, 128), "no fp6_e3m2"},
      {mx("int4", 4, 32, 128), "no int4"},
      {mx("fp4_e2m1", 4, 32, 128, 64), "groups of 32 columns, not 64"},
      {mx("fp4_e2m1", 4, 32, 80), "multiples of 32, and the layer has 80"},
      {nvfp("e4m3", 32, 128, 32), "groups of 16 columns, not 32"},
      {with_input(plain, {"ggml-block/1", {{"type", "q8_0"}}}), "quantized as blocks of ggml"},
      {with_input(plain, {"affine-int/1", {{"bits", 8}}}), "affine-int/1 has no such parameters"},
      {with_input(fp8(32, 128, 1, RH_GROUP_ROW),
                  {"scaled-fp8/1", {{"element", "e4m3"}, {"group_rows", 1}, {"group_cols", 128}, {"dynamic", false}}}),
       "one for the whole tensor"},
      {with_input(fp8(32, 128, 1, RH_GROUP_ROW),
                  {"scaled-fp8/1", {{"element", "e5m2"}, {"group_rows", 1}, {"group_cols", 128}, {"dynamic", true}}}),
       "no fp8_e5m2"},
      {with_input(nvfp("e4m3", 32, 128), {"nvfp/1", {{"scale", "e4m3"}, {"group_cols", 16}, {"dynamic", true}}}),
       "a calibrated global scale"},
  };
  for (const auto& [layer, reason] : refusals) {
    const std::string answer = check(plugin(), layer);
    EXPECT_NE(answer.find(reason), std::string::npos) << "expected: " << reason << "\nsaid: " << answer;
  }
}

TEST(LlmCompressor, RefusesDamagedCheckpoints) {
  struct Damage {
    const char* folder;
    std::function<void(std::map<std::string, Tensor>&)> change;
    const char* message;
  };
  const auto erase = [](const char* part) {
    return [part](std::map<std::string, Tensor>& t) { ASSERT_EQ(t.erase(kLayer + part), 1u); };
  };
  const auto replace = [](const char* part, Tensor by) {
    return [part, by](std::map<std::string, Tensor>& t) { t.at(kLayer + part) = by; };
  };
  const Damage damages[] = {
      {"w4a16_llmc", erase(".weight_shape"), "weight_shape may be missing"},
      {"w4a16_llmc", replace(".weight_packed", Tensor(DType::kI32, {256, 63})), "not 256 rows of 512 codes of 4 bits"},
      {"w4a16_llmc", erase(".weight_scale"), "weight_scale is not [256, 4]"},
      {"w4a16_asym_llmc", erase(".weight_zero_point"), "weight_zero_point does not hold [256, 4]"},
      {"fp8_static_llmc", replace(".weight_scale", Tensor(DType::kBF16, {255, 1})), "should have 256 elements"},
      {"fp8_static_llmc", replace(".weight", Tensor(DType::kF32, {256, 512})), "no matrix of fp8_e4m3"},
      {"mxfp8_llmc", erase(".weight"), "codes are missing"},
      {"mxfp4_llmc_rtn", erase(".weight_scale"), "weight_scale is missing"},
      {"nvfp4_llmc", erase(".weight_global_scale"), "its global scale is not one float32"},
      {"nvfp4_llmc", replace(".weight_scale", Tensor(DType::kF32, {256, 32})), "another element type"},
      {"nvfp4_llmc", replace(".input_global_scale", Tensor(DType::kF32, {2})), "global_scale is one number"},
  };
  for (const Damage& damage : damages) {
    SCOPED_TRACE(damage.message);
    SafetensorsFolder source(exports() / damage.folder);
    std::map<std::string, Tensor> tensors;
    for (const auto& name : source.names()) tensors[name] = source.load(name);
    damage.change(tensors);
    const TempFolder temporary;
    const auto out = temporary.path() / "damaged";
    OutputFolder folder(out, false);
    std::vector<TensorSpec> specs;
    for (const auto& [name, tensor] : tensors) specs.push_back({name, tensor.dtype(), tensor.shape()});
    SafetensorsWriter writer(folder, uint64_t{1} << 30, {}, specs);
    for (const auto& [name, tensor] : tensors) writer.add(name, tensor.dtype(), tensor.shape(), tensor.data());
    writer.finish();
    folder.write_text("config.json", read_json(exports() / damage.folder / "config.json").dump());
    folder.finish();
    const TestReader reader(plugin(), out);
    EXPECT_NE(reader.error().find(damage.message), std::string::npos) << reader.error();
    EXPECT_NE(reader.error().find(out.string() + ": " + kLayer), std::string::npos) << reader.error();
  }
}

TEST(LlmCompressor, BackendsAreJson) {
  const auto backends = json::parse(plugin()->backends_json(plugin().get()));
  ASSERT_FALSE(backends.empty());
  for (const auto& backend : backends) EXPECT_TRUE(backend.at("engine").is_string());
}

}  // namespace
}  // namespace roundhouse::formats
