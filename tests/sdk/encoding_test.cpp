// SPDX-License-Identifier: Apache-2.0
// Parameters of the shared encodings: printed and read, in C++ and in C.
#include <gtest/gtest.h>

#include <cstring>
#include <roundhouse/encoding/decode.hpp>
#include <string>
#include <vector>

namespace rh {
namespace {

template <typename Typed>
void expect_round_trip(const Typed& made, const char* json, std::vector<std::string> tensors) {
  EXPECT_EQ(made.json(), json);
  const Encoding encoding(made, 256, 512);
  EXPECT_EQ(Typed::of(*encoding.get()).json(), json);
  ASSERT_EQ(encoding.specs().count(), tensors.size()) << json;
  for (uint32_t i = 0; i < encoding.specs().count(); ++i) EXPECT_EQ(encoding.specs()[i].name, tensors[i]);
  int seen = 0;
  EXPECT_TRUE(with_encoding(*encoding.get(), [&](const auto& typed) {
    ++seen;
    EXPECT_EQ(typed.json(), json);
  }));
  EXPECT_EQ(seen, 1);
}

TEST(Encoding, PrintsWhatItReads) {
  expect_round_trip(AffineInt(4, true, 1, 128), R"({"bits": 4, "group_cols": 128, "group_rows": 1, "symmetric": true})",
                    {"codes", "scale"});
  AffineInt all(8, false, 1, 64);
  all.outer_scale = all.group_index = true;
  expect_round_trip(all, R"({"bits": 8, "group_cols": 64, "group_rows": 1, "symmetric": false})",
                    {"codes", "scale", "zero_point", "outer_scale", "group_index"});
  expect_round_trip(AffineInt(8, true, 1, 512, RH_INPUT_DYNAMIC),
                    R"({"bits": 8, "group_cols": 512, "group_rows": 1, "symmetric": true, "dynamic": true})", {});
  expect_round_trip(ScaledFp8(RH_FP8_E5M2, 128, 128), R"({"element": "e5m2", "group_cols": 128, "group_rows": 128})",
                    {"codes", "scale"});
  expect_round_trip(ScaledFp8(RH_FP8_E4M3, 0, 512, RH_INPUT_CALIBRATED),
                    R"({"element": "e4m3", "group_cols": 512, "group_rows": 0, "dynamic": false})", {"scale"});
  expect_round_trip(Mx(RH_MX_FP6_E3M2), R"({"element": "fp6_e3m2", "group_cols": 32})", {"codes", "scale"});
  expect_round_trip(Mx(RH_MX_INT8, 32, RH_INPUT_DYNAMIC),
                    R"({"element": "int8", "group_cols": 32, "group_rows": 1, "dynamic": true})", {});
  expect_round_trip(Nvfp(RH_NVFP_E4M3), R"({"scale": "e4m3", "group_cols": 16})", {"codes", "scale", "global_scale"});
  expect_round_trip(Nvfp(RH_NVFP_UE5M3), R"({"scale": "ue5m3", "group_cols": 16})", {"codes", "scale"});
  expect_round_trip(Nvfp(RH_NVFP_E4M3, 16, RH_INPUT_CALIBRATED),
                    R"({"scale": "e4m3", "group_cols": 16, "group_rows": 1, "dynamic": false})", {"global_scale"});
  expect_round_trip(GgmlBlock(RH_GGML_Q4_K), R"({"type": "q4_k"})", {"blocks"});
}

TEST(Encoding, ReadsAnyJsonOfTheParameters) {
  rh_affine_int p;
  for (const char* json : {R"({"bits":4,"group_cols":128,"group_rows":1,"symmetric":true})",
                           R"( { "symmetric" : true , "x": {"bits": [2, "}", {"bits": 3}]}, "group_rows": 1,
                                 "group_cols": 128, "s": "a\"b,{", "bits" : 4 } )"}) {
    ASSERT_TRUE(rh_affine_int_parse(json, &p)) << json;
    EXPECT_EQ(p.bits, 4);
    EXPECT_EQ(p.symmetric, 1);
    EXPECT_EQ(p.group_cols, 128);
    EXPECT_EQ(p.dynamic, RH_INPUT_NONE);
  }
}

TEST(Encoding, RefusesOtherParameters) {
  rh_affine_int p;
  for (const char* json :
       {"", "4", "[]", "{}", R"({"bits": 4)", R"({"bits": "4", "group_cols": 1, "group_rows": 1, "symmetric": true})",
        R"({"bits": 9, "group_cols": 1, "group_rows": 1, "symmetric": true})",
        R"({"bits": 4.5, "group_cols": 1, "group_rows": 1, "symmetric": true})",
        R"({"bits": 4, "group_cols": 0, "group_rows": 1, "symmetric": true})",
        R"({"bits": 4, "group_cols": 1, "group_rows": 1, "symmetric": 1})",
        R"({"bits": 4, "group_cols": 1, "group_rows": 1, "symmetric": true, "dynamic": "yes"})",
        R"({"bits": 4, "group_cols": 1, "group_rows": 1, "symmetric": trueish})",
        R"({"bits\": 4, "group_cols": 1, "group_rows": 1, "symmetric": true})"})
    EXPECT_FALSE(rh_affine_int_parse(json, &p)) << json;
  rh_mx mx;
  EXPECT_FALSE(rh_mx_parse(R"({"element": "fp4", "group_cols": 32})", &mx));
  const rh_encoding other{sizeof other, 0, "example.com/nf4/1", "{}", nullptr};
  EXPECT_THROW(AffineInt::of(other), Error);
  EXPECT_FALSE(with_encoding(other, [](const auto&) { FAIL(); }));
}

// By hand: W = outer * round(scale * (code - zero)), with groups of two columns in an order of their own.
TEST(Encoding, DecodesGroupsInAnOrderOfTheirOwn) {
  AffineInt made(4, false, 1, 2);
  made.scale = kF32;
  made.group_index = true;
  const Encoding encoding(made, 1, 4);
  uint8_t codes[] = {1, 2, 3, 4}, zero_points[] = {0, 1};
  float scales[] = {0.5f, 2.0f}, out[4];
  int32_t index[] = {1, 0, 0, 1};
  const View code(codes, kU8, {1, 4}), scale(scales, kF32, {1, 2}), zero(zero_points, kU8, {1, 2}),
      group(index, kI32, {4}), output(out, kF32, {1, 4});
  const rh_tensor* tensors[] = {code.get(), scale.get(), zero.get(), group.get()};
  rh_tensor written = *output.get();
  rh_host host{};
  host.struct_size = sizeof host;
  host.get_extension = [](const rh_host*, const char*) -> const void* { return nullptr; };
  host_slot() = &host;
  decode(*encoding.get(), tensors, written);
  EXPECT_EQ(std::vector<float>(out, out + 4), (std::vector<float>{0, 1, 1.5f, 6}));
  index[2] = 2;
  EXPECT_THROW(decode(*encoding.get(), tensors, written), Error);
}

}  // namespace
}  // namespace rh
