// SPDX-License-Identifier: Apache-2.0
// The data type int through its C ABI: what the goldens do not show.
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "tests/dtypes/tuned_layer.h"

namespace roundhouse {
namespace {

// Every bit width, kind, element type and a group size that divides the columns, one that does not, a row, the tensor.
template <typename Body>
void for_schemes(Body&& body) {
  uint32_t seed = 0;
  for (int bits = 2; bits <= 8; ++bits) {
    for (const char* kind : {"symmetric", "asymmetric", "mirrored"}) {
      for (DType weight : {DType::kF32, DType::kF16, DType::kBF16}) {
        for (DType scale : {DType::kF32, DType::kF16, DType::kBF16}) {
          for (int64_t group : {32, 48, -1, 0, 1000}) {
            TensorScheme scheme = int_scheme(bits, kind != std::string("asymmetric"), group);
            if (kind == std::string("mirrored")) scheme.options = {{"mirrored", true}};
            scheme.scale_dtype = scale;
            ++seed;
            SCOPED_TRACE(cat(bits, " bits, ", kind, ", groups of ", group, ", ", config_name(weight), " weight, ",
                             config_name(scale), " scale"));
            body(TunedLayer(scheme, random_tensor(weight, {6, 160}, 0.02f, seed), seed));
            if (testing::Test::HasFailure()) return;
          }
        }
      }
    }
  }
}

TEST(IntQuantizer, DecodeOfEncodeIsForward) {
  for_schemes([](TunedLayer layer) {
    expect_decode_of_encode_is_forward(layer, true);
    expect_decode_of_encode_is_forward(layer, false);
  });
}

TEST(IntQuantizer, SignStepIsBackwardAndSign) {
  for_schemes([](TunedLayer layer) { expect_sign_step_is_backward_and_sign(layer); });
}

TEST(IntQuantizer, OutputIsRoundedToTheWeightsTypeFirst) {
  for_schemes([](TunedLayer layer) {
    const Tensor own = layer.forward(true, layer.weight.dtype());
    for (DType type : {DType::kF32, DType::kF16, DType::kBF16})
      ASSERT_EQ(bytes_of(layer.forward(true, type)), bytes_of(own.to(type))) << config_name(type);
  });
}

TEST(IntQuantizer, OutputMayBeTheWeightItself) {
  for_schemes([](TunedLayer layer) {
    const Tensor expected = layer.forward(true, layer.weight.dtype());
    rh_tensor view = layer.weight.view();
    layer.quantizer.forward({}, view, layer.tunables.data(), layer.states.data(), view);
    ASSERT_EQ(bytes_of(layer.weight), bytes_of(expected));
  });
}

TEST(IntQuantizer, NoResultDependsOnTheThreadCount) {
  for (int64_t group : {128, -1, 0}) expect_same_for_any_thread_count(int_scheme(4, false, group));
}

void expect_refused(const TensorScheme& scheme, const std::string& reason, int32_t target = RH_TARGET_WEIGHT,
                    DType weight = DType::kBF16) {
  const std::string message = failure([&] {
    check_dtype(catalogue().dtype(scheme.dtype), scheme, {"layer.0", "", 8, 64, weight, target});
  });
  EXPECT_NE(message.find(reason), std::string::npos) << "\"" << message << "\" does not say \"" << reason << "\"";
}

TEST(IntQuantizer, RefusesWhatItCannotDo) {
  const TensorScheme good = int_scheme(4, true, 32);
  EXPECT_EQ(failure([&] {
              check_dtype(catalogue().dtype(good.dtype), good, {"layer.0", "", 8, 64, DType::kBF16});
            }),
            "");

  expect_refused(int_scheme(1, true, 32), "2 to 8 bits");
  expect_refused(int_scheme(9, true, 32), "2 to 8 bits");
  expect_refused(int_scheme(4, true, -2), "group_size -2");
  expect_refused(good, "float32, float16 or bfloat16", RH_TARGET_WEIGHT, DType::kI8);
  TensorScheme scheme = good;
  scheme.dynamic = false;
  expect_refused(scheme, "act_dynamic", RH_TARGET_ACTIVATION);
  expect_refused(int_scheme(8, true, 0), "act_group_size", RH_TARGET_ACTIVATION);
  scheme = int_scheme(4, true, 0);
  scheme.rounding = Rounding::kSearch;
  expect_refused(scheme, "does not search for the scale of a whole tensor");
  scheme = int_scheme(4, false, 32);
  scheme.options = {{"mirrored", true}};
  expect_refused(scheme, "set sym to true");
  scheme = good;
  scheme.group_rows = 128;
  expect_refused(scheme, "groups of columns");
  scheme = good;
  scheme.options = {{"super_bits", 6}};
  expect_refused(scheme, "int has no option \"super_bits\"");
  scheme = good;
  scheme.scale_dtype = DType::kI8;
  expect_refused(scheme, "scale_dtype");
  scheme = good;
  scheme.scale_threshold = 1e-9;
  expect_refused(scheme, "q_scale_thresh 1e-09");
  scheme = good;
  scheme.options = {{"secret", 1}};
  expect_refused(scheme, "no option \"secret\"; it has mirrored");
}

TEST(IntQuantizer, NamesTheGroupWithANaN) {
  for (float bad : {std::nanf(""), HUGE_VALF}) {
    Tensor weight = random_tensor(DType::kF32, {4, 100}, 0.02f, 1);
    weight.as<float>()[2 * 100 + 70] = bad;
    const std::string message = failure([&] { TunedLayer(int_scheme(4, true, 64), weight, 1); });
    EXPECT_NE(message.find("layer.0"), std::string::npos) << message;
    EXPECT_NE(message.find("row 2, columns 64 to 99, holds NaN or infinity"), std::string::npos) << message;
  }
}

TEST(IntQuantizer, RefusesARangeThatTheScaleCannotHold) {
  Tensor weight = random_tensor(DType::kF32, {4, 100}, 0.02f, 1);
  weight.as<float>()[5] = 1e6f;
  TensorScheme scheme = int_scheme(4, true, 64);
  const std::string message = failure([&] { TunedLayer(scheme, weight, 1); });
  EXPECT_NE(message.find("a scale beyond float16"), std::string::npos) << message;
  scheme.scale_dtype = DType::kF32;
  EXPECT_EQ(failure([&] { TunedLayer(scheme, weight, 1); }), "");
}

TEST(IntQuantizer, DeclaresShapes) {
  const Tensor weight = random_tensor(DType::kBF16, {6, 100}, 0.02f, 1);
  const auto shapes = [&](int64_t group) {
    TunedLayer layer(int_scheme(4, false, group), weight, 1);
    const TensorSet results = layer.quantizer.results(), encoded = layer.quantizer.encoded();
    return cat(shape_text(layer.tunables[0].shape()), shape_text(layer.tunables[1].shape()),
               shape_text(results[0].shape()), shape_text(encoded[1].shape()),
               layer.quantizer.info().encoding->parameters_json);
  };
  EXPECT_EQ(shapes(32),
            "[24, 32][24][24, 1][6, 4]"
            R"({"bits": 4, "group_cols": 32, "group_rows": 1, "symmetric": false})");
  for (int64_t group : {-1, 100, 128})
    EXPECT_EQ(shapes(group),
              "[6, 100][6][6, 1][6, 1]"
              R"({"bits": 4, "group_cols": 100, "group_rows": 1, "symmetric": false})");
  EXPECT_EQ(shapes(0),
            "[1, 600][1][1, 1][1, 1]"
            R"({"bits": 4, "group_cols": 100, "group_rows": 6, "symmetric": false})");
}

}  // namespace
}  // namespace roundhouse
