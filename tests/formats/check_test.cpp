// SPDX-License-Identifier: Apache-2.0
// What the formats refuse at plan time, and the reason that they give.
#include <roundhouse/encoding/decode.hpp>
#include <type_traits>

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
    {"auto_round", 1, 64, 128, 128, false, "affine-int/1 has no such parameters"},
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
    {"auto_awq", 4, 64, 128, 128, true, "it stores weights only"},
    {"fake", 1, 3, 5, 2, true, ""},
};

TEST(Check, RefusesWithTheReason) {
  for (const Refusal& r : kRefusals) {
    const FormatPlugin format(r.format);
    const std::string answer = check(
        format, random_layer("model.layers.0.mlp.up_proj", r.bits, r.rows, r.cols, r.group_size, true), r.activation);
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
  const char* activation;  // parameters, in the weight's encoding; "": not quantized
  const char* reason;      // a part of the message; "": accepted
};

const char* const kMx4 = R"({"element": "fp4_e2m1", "group_cols": 32})";
const char* const kMx4Input = R"({"element": "fp4_e2m1", "group_cols": 32, "dynamic": true})";
const char* const kE4M3 = R"({"scale": "e4m3", "group_cols": 16})";
const char* const kE4M3Input = R"({"scale": "e4m3", "group_cols": 16, "dynamic": true})";
const char* const kE4M3Calibrated = R"({"scale": "e4m3", "group_cols": 16, "dynamic": false})";
const char* const kUE5M3 = R"({"scale": "ue5m3", "group_cols": 16})";
const char* const kUE5M3Input = R"({"scale": "ue5m3", "group_cols": 16, "dynamic": true})";
const char* const kFp8Tensor = R"({"element": "e4m3", "group_rows": 256, "group_cols": 256})";
const char* const kFp8Rows = R"({"element": "e4m3", "group_rows": 1, "group_cols": 256})";
const char* const kFp8Groups = R"({"element": "e4m3", "group_rows": 1, "group_cols": 64})";
const char* const kFp8Blocks = R"({"element": "e4m3", "group_rows": 128, "group_cols": 128})";
const char* const kStatic = R"({"element": "e4m3", "group_rows": 0, "group_cols": 256, "dynamic": false})";
const char* const kDynamic128 = R"({"element": "e4m3", "group_rows": 1, "group_cols": 128, "dynamic": true})";

const FloatRefusal kFloatRefusals[] = {
    {"auto_round", "mx/1", kMx4, kMx4Input, ""},
    {"auto_round", "mx/1", kMx4, "", "want the input in the weight's own numbers"},
    {"auto_round", "mx/1", kMx4, R"({"element": "fp8_e4m3", "group_cols": 32, "dynamic": true})",
     "want the input in the weight's own numbers"},
    {"auto_round", "mx/1", R"({"element": "fp6_e2m3", "group_cols": 32})", "", "not fp6_e2m3"},
    {"auto_round", "mx/1", R"({"element": "int4", "group_cols": 16})", "", "in groups of 16"},
    {"auto_round", "mx/1", R"({"element": "fp5", "group_cols": 32})", "", "has no such parameters"},
    {"auto_round", "nvfp/1", kE4M3, kE4M3Calibrated, ""},
    {"auto_round", "nvfp/1", kE4M3, kE4M3Input, "a calibrated global scale"},
    {"auto_round", "nvfp/1", kUE5M3, kUE5M3Input, ""},
    {"auto_round", "nvfp/1", kUE5M3, kE4M3Calibrated, "want the input in the weight's own numbers"},
    {"auto_round", "nvfp/1", R"({"scale": "ue5m3", "group_cols": 32})", kUE5M3Input, "in groups of 32"},
    {"auto_round", "scaled-fp8/1", kFp8Tensor, "", ""},
    {"auto_round", "scaled-fp8/1", kFp8Tensor, kStatic, "an input that is not quantized"},
    {"auto_round", "scaled-fp8/1", kFp8Rows, kStatic, ""},
    {"auto_round", "scaled-fp8/1", kFp8Rows, "", "one calibrated scale"},
    {"auto_round", "scaled-fp8/1", kFp8Groups, "", "one scale for the tensor, for a row, or for a block"},
    {"auto_round", "scaled-fp8/1", R"({"element": "e5m2", "group_rows": 1, "group_cols": 256})", "", "not e5m2"},
    {"auto_round", "scaled-fp8/1", kFp8Blocks, kDynamic128, ""},
    {"auto_round", "scaled-fp8/1", kFp8Blocks, "", "want an e4m3 input"},
    {"fp8", "scaled-fp8/1", kFp8Blocks, kDynamic128, ""},
    {"fp8", "scaled-fp8/1", kFp8Blocks, "", "engines quantize the input to e4m3 as well"},
    {"fp8", "scaled-fp8/1", kFp8Blocks, kStatic, "dynamic scales of 128 columns"},
    {"fp8", "scaled-fp8/1", kFp8Rows, kDynamic128, "for each block of 128 x 128"},
    {"fp8", "mx/1", kMx4, kMx4Input, "fp8 packs scaled-fp8/1, not mx/1"},
};

// The encoding of a weight [256, 256], or of an input, with the tensors that its parameters ask for.
rh::Encoding made(const char* id, const char* parameters) {
  const rh_encoding bare{sizeof bare, 0, id, parameters, nullptr};
  rh::Specs specs;
  try {
    rh::with_encoding(bare, [&](auto typed) {
      if constexpr (std::is_same_v<decltype(typed), rh::ScaledFp8>) typed.unit_scale = false;
      specs = typed.specs(256, 256);
    });
  } catch (const rh::Error&) {  // parameters that the encoding does not have
  }
  return {id, parameters, std::move(specs)};
}

TEST(Check, RefusesFloatsWithTheReason) {
  for (const FloatRefusal& r : kFloatRefusals) {
    const FormatPlugin format(r.format);
    const rh::Encoding weight = made(r.encoding, r.parameters), input = made(r.encoding, r.activation);
    rh_format_layer layer{};
    layer.struct_size = sizeof layer;
    layer.name = "model.layers.0.mlp.up_proj";
    layer.role = "";
    layer.rows = layer.cols = 256;
    layer.encoding = weight.get();
    layer.activation_encoding = *r.activation ? input.get() : nullptr;
    rh_error error{};
    format->check(format.get(), &layer, "{}", &error);
    if (*r.reason) {
      EXPECT_NE(std::string(error.message).find(r.reason), std::string::npos) << r.format << " said: " << error.message;
    } else {
      EXPECT_STREQ(error.message, "") << r.format;
    }
  }
}

}  // namespace
}  // namespace roundhouse::formats
