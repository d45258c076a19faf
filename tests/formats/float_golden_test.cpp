// SPDX-License-Identifier: Apache-2.0
// The reference's exports of float schemes, read and written again. tests/data/exports/README.md says where they come
// from.
#include <cstring>
#include <set>

#include "host/checkpoint/safetensors.h"
#include "tests/formats/encoded_fixture.h"

namespace roundhouse::formats {
namespace {

using nlohmann::json;

struct FloatGolden {
  const char* folder;
  const char* format;
  const char* encoding;  // id and parameters of down_proj, [256, 512]
  const char* parameters;
  const char* activation;  // the parameters; "": the input is not quantized
};

const FloatGolden kGoldens[] = {
    {"mxfp4_autoround_it5", "auto_round", "mx/1", R"({"element": "fp4_e2m1", "group_cols": 32})",
     R"({"element": "fp4_e2m1", "group_cols": 32, "group_rows": 1, "dynamic": true})"},
    {"mxint4_plainrtn", "auto_round", "mx/1", R"({"element": "int4", "group_cols": 32})",
     R"({"element": "int4", "group_cols": 32, "group_rows": 1, "dynamic": true})"},
    {"nvfp4_autoround_it5", "auto_round", "nvfp/1", R"({"scale": "e4m3", "group_cols": 16})",
     R"({"scale": "e4m3", "group_cols": 16, "group_rows": 1, "dynamic": false})"},
    {"fpw8a16_autoround", "auto_round", "scaled-fp8/1", R"({"element": "e4m3", "group_rows": 256, "group_cols": 512})",
     ""},
    {"fp8_static_autoround", "auto_round", "scaled-fp8/1", R"({"element": "e4m3", "group_rows": 1, "group_cols": 512})",
     R"({"element": "e4m3", "group_rows": 0, "group_cols": 512, "dynamic": false})"},
    {"fp8_block_fp8", "fp8", "scaled-fp8/1", R"({"element": "e4m3", "group_rows": 128, "group_cols": 128})",
     R"({"element": "e4m3", "group_rows": 1, "group_cols": 128, "dynamic": true})"},
};

// The layers of an export, and its other tensors, written by `format`. The empty string, or the plugin's message.
std::string recode(const FormatPlugin& from, const std::filesystem::path& source, const FormatPlugin& format,
                   const std::filesystem::path& folder, std::vector<std::pair<std::string, Tensor>> tensors = {}) {
  const TestReader reader(from, source);
  std::vector<EncodedLayer> layers;
  for (const auto& name : reader.names()) {
    if (reader.item(name).kind == RH_ITEM_LAYER) {
      layers.push_back(read_layer(reader, name));
    } else {
      tensors.emplace_back(name, reader.read(name));
    }
  }
  return write(format, folder, layers, {}, json::object(), tensors);
}

// The reference keeps the sign of an integer 0; mx/1 has none.
Tensor without_minus_zero(const Tensor& packed) {
  Tensor out(DType::kU8, packed.shape());
  for (int64_t i = 0; i < packed.elements(); ++i) {
    uint8_t byte = packed.as<uint8_t>()[i];
    if ((byte & 0x0f) == 0x08) byte &= 0xf0;
    if ((byte & 0xf0) == 0x80) byte &= 0x0f;
    out.as<uint8_t>()[i] = byte;
  }
  return out;
}

class FloatGoldenExport : public testing::TestWithParam<FloatGolden> {
 protected:
  const std::filesystem::path folder_ = exports() / GetParam().folder;
  const FormatPlugin format_{GetParam().format};
  const TempFolder temporary_;
};

TEST_P(FloatGoldenExport, SaysWhatItHolds) {
  for (const char* name : {"auto_round", "auto_gptq", "auto_awq", "fp8", "fake"}) {
    const FormatPlugin format(name);
    EXPECT_EQ(format->probe(format.get(), folder_.c_str()) > 0, std::string(name) == GetParam().format) << name;
  }
  const TestReader reader(format_, folder_);
  ASSERT_EQ(reader.error(), "");
  EXPECT_EQ(reader.names().size(), 3u);
  const rh_item item = reader.item("model.layers.0.mlp.down_proj.weight");
  EXPECT_STREQ(item.encoding->id, GetParam().encoding);
  EXPECT_EQ(json::parse(item.encoding->parameters_json), json::parse(GetParam().parameters));
  if (*GetParam().activation) {
    ASSERT_NE(item.activation_encoding, nullptr);
    EXPECT_STREQ(item.activation_encoding->id, GetParam().encoding);
    EXPECT_EQ(json::parse(item.activation_encoding->parameters_json), json::parse(GetParam().activation));
  } else {
    EXPECT_EQ(item.activation_encoding, nullptr);
  }
}

// Every tensor comes back bit for bit; fp8 widens the scales of blocks to the float32 that engines hold.
TEST_P(FloatGoldenExport, PacksToTheSameTensors) {
  ASSERT_EQ(recode(format_, folder_, format_, temporary_.path() / "out"), "");
  SafetensorsFolder expected(folder_), written(temporary_.path() / "out");
  const auto names = expected.names(), written_names = written.names();
  EXPECT_EQ(std::set(names.begin(), names.end()), std::set(written_names.begin(), written_names.end()));
  for (const auto& name : names) {
    const Tensor b = written.load(name);
    Tensor a = expected.load(name);
    EXPECT_EQ(a.shape(), b.shape()) << name;
    if (name.ends_with(".weight_scale_inv")) a = a.to(DType::kF32);
    if (std::string(GetParam().folder) == "mxint4_plainrtn" && name.ends_with(".weight_packed"))
      a = without_minus_zero(a);
    EXPECT_EQ(a.dtype(), b.dtype()) << name;
    EXPECT_EQ(std::memcmp(a.data(), b.data(), a.bytes()), 0) << name;
  }
}

TEST_P(FloatGoldenExport, HasTheReferencesKeys) {
  ASSERT_EQ(recode(format_, folder_, format_, temporary_.path() / "out"), "");
  const json written = read_json(temporary_.path() / "out/config.json").at("quantization_config");
  json expected = read_json(folder_ / "config.json").at("quantization_config");
  for (const char* key : {"autoround_version", "enable_quanted_input", "iters"}) expected.erase(key);
  if (std::string(GetParam().format) == "fp8") {  // engines read none of these
    for (const char* key : {"act_bits", "act_data_type", "act_dynamic", "act_group_size", "act_sym", "bits",
                            "block_name_to_quantize", "data_type", "group_size", "sym"}) {
      expected.erase(key);
    }
  }
  for (const auto& [key, value] : expected.items()) EXPECT_EQ(written.value(key, json()), value) << key;
}

INSTANTIATE_TEST_SUITE_P(Reference, FloatGoldenExport, testing::ValuesIn(kGoldens),
                         [](const auto& info) { return info.param.folder; });

// What one format stores another does, when both can.
TEST(FloatExports, AutoRoundHoldsBlocksToo) {
  const FormatPlugin fp8("fp8"), auto_round("auto_round");
  const TempFolder temporary;
  ASSERT_EQ(recode(fp8, exports() / "fp8_block_fp8", auto_round, temporary.path() / "a"), "");
  const json config = read_json(temporary.path() / "a/config.json").at("quantization_config");
  EXPECT_EQ(config.at("packing_format"), "auto_round:fp8");
  EXPECT_EQ(config.at("group_size"), (json{128, 128}));
  EXPECT_EQ(config.at("weight_block_size"), (json{128, 128}));
  const TestReader a(fp8, exports() / "fp8_block_fp8"), b(auto_round, temporary.path() / "a");
  const std::string name = "model.layers.0.self_attn.k_proj.weight";
  const Tensor before = a.read(name, DType::kF32), after = b.read(name, DType::kF32);
  EXPECT_EQ(std::memcmp(before.data(), after.data(), before.bytes()), 0);
}

// Unquantized weights, whether the architecture knows them or not, are named where an engine would look for codes.
TEST(FloatExports, NameWhatStaysAsItIs) {
  const TempFolder temporary;
  for (const std::string name : {"fp8", "auto_round"}) {
    const FormatPlugin format(name);
    const auto out = temporary.path() / name;
    ASSERT_EQ(recode(format, exports() / (name == "fp8" ? "fp8_block_fp8" : "mxfp4_autoround_it5"), format, out,
                     {{"model.layers.0.mlp.router.weight", Tensor(DType::kBF16, {4, 256})},
                      {"vision.proj.weight", Tensor(DType::kBF16, {4, 256})}}),
              "");
    const json config = read_json(out / "config.json").at("quantization_config");
    if (name == "fp8") {
      EXPECT_EQ(config.at("modules_to_not_convert"), (json{"model.layers.0.mlp.router", "vision.proj"}));
    } else {
      EXPECT_EQ(config.at("extra_config"),
                json::parse(R"({"model.layers.0.mlp.router": {"bits": 16, "data_type": "float", "act_bits": 16}})"));
    }
  }
}

// packing_format is one for the whole model.
TEST(FloatExports, CannotMixPackings) {
  const FormatPlugin format("auto_round");
  const TempFolder temporary;
  const TestReader mxfp4(format, exports() / "mxfp4_autoround_it5"), mxint4(format, exports() / "mxint4_plainrtn");
  const std::string message = write(format, temporary.path() / "out",
                                    {read_layer(mxfp4, "model.layers.0.mlp.down_proj.weight"),
                                     read_layer(mxint4, "model.layers.0.self_attn.k_proj.weight")});
  EXPECT_EQ(message,
            "it allows one packing_format per checkpoint: this layer needs auto_round:llm_compressor, and most "
            "layers of this plan need auto_round");
}

// Both have the packing of llm_compressor, so that one model may hold them.
TEST(FloatExports, ListLayersThatDiffer) {
  const FormatPlugin format("auto_round");
  const TempFolder temporary;
  const TestReader mxfp4(format, exports() / "mxfp4_autoround_it5");
  EncodedLayer wide{"model.layers.1.mlp.down_proj",
                    64,
                    128,
                    {"mx/1",
                     {{"element", "fp8_e4m3"}, {"group_cols", 32}},
                     {{"codes", random_codes(64, 128, 8)}, {"scale", random_codes(64, 4, 8)}}}};
  wide.activation =
      Encoded{"mx/1", {{"element", "fp8_e4m3"}, {"group_cols", 32}, {"group_rows", 1}, {"dynamic", true}}, {}};
  ASSERT_EQ(write(format, temporary.path() / "out", {read_layer(mxfp4, "model.layers.0.mlp.down_proj.weight"), wide}),
            "");
  const json config = read_json(temporary.path() / "out/config.json").at("quantization_config");
  EXPECT_EQ(config.at("bits"), 4);
  EXPECT_EQ(config.at("extra_config"), json::parse(R"({"model.layers.1.mlp.down_proj": {
    "bits": 8, "group_size": 32, "sym": true, "data_type": "mx_fp", "act_bits": 8, "act_group_size": 32,
    "act_sym": true, "act_data_type": "mx_fp", "act_dynamic": true}})"));
  const EncodedLayer back =
      read_layer(TestReader(format, temporary.path() / "out"), "model.layers.1.mlp.down_proj.weight");
  expect_same(back.weight, wide.weight);
  expect_same(*back.activation, *wide.activation);
}

}  // namespace
}  // namespace roundhouse::formats
