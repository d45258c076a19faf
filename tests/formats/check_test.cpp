// What the formats refuse at plan time, and the reason that they give.
#include "tests/formats/format_fixture.h"

namespace roundhouse::formats {
namespace {

struct Refusal {
  const char* format;
  int bits;
  int64_t rows, cols, group_size;
  bool activation;
  const char* reason;  // a part of the message; "": accepted
};

const Refusal kRefusals[] = {
    {"auto_round", 4, 64, 128, 128, false, ""},
    {"auto_round", 5, 64, 128, -1, false, ""},
    {"auto_round", 4, 64, 64, 128, false, ""},  // a group wider than the layer is one group a row
    {"auto_round", 1, 64, 128, 128, false, "it stores 2, 3, 4, 5, 6, 7, 8 bits, not 1"},
    {"auto_round", 4, 48, 128, 128, false, "multiples of 32, and the weight is [48, 128]"},
    {"auto_round", 4, 64, 172, -1, false, "multiples of 32, and the weight is [64, 172]"},
    {"auto_round", 4, 64, 160, 128, false, "160 is not one of 128"},
    {"auto_round", 4, 64, 128, 128, true, "it stores weights only"},
    {"auto_gptq", 4, 64, 128, 128, false, ""},
    {"auto_gptq", 3, 64, 128, 32, false, ""},
    {"auto_gptq", 5, 64, 128, 128, false, "it stores 2, 3, 4, 8 bits, not 5"},
    {"auto_gptq", 4, 64, 100, 100, false, "multiples of 32"},
    {"auto_gptq", 8, 64, 128, 128, true, "it stores weights only"},
    {"auto_awq", 4, 64, 128, 128, false, ""},
    {"auto_awq", 4, 64, 128, -1, false, ""},
    {"auto_awq", 5, 64, 128, 128, false, "it stores 4 bits, not 5"},
    {"auto_awq", 4, 64, 64, 128, false, "128 is wider than the layer's 64 columns"},
    {"auto_awq", 4, 64, 128, 128, true, "it stores weights only"},
    {"fake", 1, 3, 5, 2, true, ""},
};

TEST(Check, RefusesWithTheReason) {
  const rh_scheme activation{};
  for (const Refusal& r : kRefusals) {
    const FormatPlugin format(r.format);
    const std::string answer =
        check(format, random_layer("model.layers.0.mlp.up_proj", r.bits, r.rows, r.cols, r.group_size, true),
              r.activation ? &activation : nullptr);
    if (*r.reason) {
      EXPECT_NE(answer.find(r.reason), std::string::npos) << r.format << " said: " << answer;
    } else {
      EXPECT_EQ(answer, "") << r.format;
    }
  }
}

// As progressive quantization emits it.
TEST(Check, RefusesAScaleOfTheWholeTensorBesideThoseOfGroups) {
  for (const char* name : {"auto_round", "auto_gptq"}) {
    TestLayer layer = random_layer("model.layers.0.mlp.up_proj", 4, 64, 128, 128, true);
    layer.outer_scale = Tensor(DType::kF32, {1});
    const std::string answer = check(FormatPlugin(name), layer);
    EXPECT_NE(answer.find("another for the whole tensor (outer_scale)"), std::string::npos)
        << name << " said: " << answer;
  }
}

struct FloatRefusal {
  const char* format;
  const char* encoding;
  const char* parameters;
  int64_t group_rows, group_cols;  // of the weight's scheme
  const char* activation;          // parameters, in the weight's encoding; "": not quantized
  const char* calibrated;          // the name of its range; "": none
  const char* reason;              // a part of the message; "": accepted
};

const char* const kMx4 = R"({"element": "fp4_e2m1", "group_cols": 32, "dynamic": true})";
const char* const kE4M3 = R"({"scale": "e4m3", "group_cols": 16, "dynamic": true})";
const char* const kUE5M3 = R"({"scale": "ue5m3", "group_cols": 16, "dynamic": true})";
const char* const kFp8Rows = R"({"element": "e4m3", "group_rows": 1, "group_cols": 256})";
const char* const kFp8Blocks = R"({"element": "e4m3", "group_rows": 128, "group_cols": 128})";
const char* const kStatic = R"({"element": "e4m3", "group_rows": 0, "group_cols": 256, "dynamic": false})";
const char* const kDynamic128 = R"({"element": "e4m3", "group_rows": 1, "group_cols": 128, "dynamic": true})";

const FloatRefusal kFloatRefusals[] = {
    {"auto_round", "mx/1", kMx4, 1, 32, kMx4, "", ""},
    {"auto_round", "mx/1", kMx4, 1, 32, "", "", "want the input in the weight's own numbers"},
    {"auto_round", "mx/1", kMx4, 1, 32, R"({"element": "fp8_e4m3", "group_cols": 32, "dynamic": true})", "",
     "want the input in the weight's own numbers"},
    {"auto_round", "mx/1", R"({"element": "fp6_e2m3", "group_cols": 32})", 1, 32, "", "", "not fp6_e2m3"},
    {"auto_round", "mx/1", R"({"element": "int4", "group_cols": 16})", 1, 16, "", "", "in groups of 16"},
    {"auto_round", "nvfp/1", kE4M3, 1, 16, kE4M3, "global_scale", ""},
    {"auto_round", "nvfp/1", kE4M3, 1, 16, kE4M3, "", "a calibrated global scale"},
    {"auto_round", "nvfp/1", kUE5M3, 1, 16, kUE5M3, "", ""},
    {"auto_round", "nvfp/1", kUE5M3, 1, 16, kE4M3, "global_scale", "want the input in the weight's own numbers"},
    {"auto_round", "nvfp/1", R"({"scale": "ue5m3", "group_cols": 32})", 1, 32, kUE5M3, "", "in groups of 32"},
    {"auto_round", "scaled-fp8/1", kFp8Rows, 1, 0, "", "", ""},
    {"auto_round", "scaled-fp8/1", kFp8Rows, 1, 0, kStatic, "scale", "an input that is not quantized"},
    {"auto_round", "scaled-fp8/1", kFp8Rows, 1, -1, kStatic, "scale", ""},
    {"auto_round", "scaled-fp8/1", kFp8Rows, 1, -1, "", "", "one calibrated scale"},
    {"auto_round", "scaled-fp8/1", kFp8Rows, 1, 64, "", "", "one scale for the tensor, for a row, or for a block"},
    {"auto_round", "scaled-fp8/1", R"({"element": "e5m2", "group_rows": 1, "group_cols": 256})", 1, -1, "", "",
     "not fp8_e5m2"},
    {"auto_round", "scaled-fp8/1", kFp8Blocks, 128, 128, kDynamic128, "", ""},
    {"auto_round", "scaled-fp8/1", kFp8Blocks, 128, 128, "", "", "want an e4m3 input"},
    {"fp8", "scaled-fp8/1", kFp8Blocks, 128, 128, kDynamic128, "", ""},
    {"fp8", "scaled-fp8/1", kFp8Blocks, 128, 128, "", "", "engines quantize the input to e4m3 as well"},
    {"fp8", "scaled-fp8/1", kFp8Blocks, 128, 128, kStatic, "scale", "dynamic scales of 128 columns"},
    {"fp8", "scaled-fp8/1", kFp8Rows, 1, -1, kDynamic128, "", "for each block of 128 x 128"},
    {"fp8", "mx/1", kMx4, 1, 32, kMx4, "", "for each block of 128 x 128"},
};

TEST(Check, RefusesFloatsWithTheReason) {
  for (const FloatRefusal& r : kFloatRefusals) {
    const FormatPlugin format(r.format);
    rh::Specs range;
    if (*r.calibrated) range.add(r.calibrated, rh::kF32, {1});
    const rh_encoding weight{sizeof weight, 0, r.encoding, r.parameters, nullptr};
    const rh_encoding input{sizeof input, range.count(), r.encoding, r.activation, range.data()};
    rh_scheme scheme{};
    scheme.group_rows = r.group_rows;
    scheme.group_cols = r.group_cols;
    rh_format_query query{};
    query.struct_size = sizeof query;
    query.name = "model.layers.0.mlp.up_proj";
    query.role = "";
    query.rows = query.cols = 256;
    query.scheme = &scheme;
    query.activation = *r.activation ? &scheme : nullptr;
    query.encoding = &weight;
    query.activation_encoding = *r.activation ? &input : nullptr;
    query.options_json = "{}";
    rh_error error{};
    format->check(format.get(), &query, &error);
    if (*r.reason) {
      EXPECT_NE(std::string(error.message).find(r.reason), std::string::npos) << r.format << " said: " << error.message;
    } else {
      EXPECT_STREQ(error.message, "") << r.format;
    }
  }
}

TEST(Check, BackendsAreJson) {
  for (const char* name : {"auto_round", "auto_gptq", "auto_awq", "fp8", "fake"}) {
    const FormatPlugin format(name);
    const auto backends = nlohmann::json::parse(format->backends_json(format.get()));
    ASSERT_FALSE(backends.empty()) << name;
    for (const auto& backend : backends) EXPECT_TRUE(backend.at("engine").is_string()) << name;
  }
}

}  // namespace
}  // namespace roundhouse::formats
