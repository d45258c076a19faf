// SPDX-License-Identifier: Apache-2.0
// The data type fp8_to_int_sym: what the goldens do not show.
#include "tests/dtypes/tuned_layer.h"

namespace roundhouse {
namespace {

TensorScheme w4fp8(int64_t group) {
  TensorScheme scheme = int_scheme(4, true, group);
  scheme.dtype = "fp8_to_int_sym";
  return scheme;
}

template <typename Body>
void for_layers(Body&& body) {
  uint32_t seed = 0;
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16})
    for (int64_t group : {32, 48, -1, 0}) {
      SCOPED_TRACE(cat(config_name(dtype), ", groups of ", group));
      ++seed;
      body(TunedLayer(w4fp8(group), random_tensor(dtype, {6, 160}, 0.02f, seed), seed));
    }
}

TEST(Fp8ToIntSym, DecodeOfEncodeIsForward) {
  for_layers([](TunedLayer layer) {
    expect_decode_of_encode_is_forward(layer, true);
    expect_decode_of_encode_is_forward(layer, false);
  });
}

TEST(Fp8ToIntSym, SignStepIsBackwardAndSign) {
  for_layers([](TunedLayer layer) { expect_sign_step_is_backward_and_sign(layer); });
}

TEST(Fp8ToIntSym, NoResultDependsOnTheThreadCount) {
  for (int64_t group : {128, -1, 0}) expect_same_for_any_thread_count(w4fp8(group));
}

// A factor of the range that float8 spans: what lies beyond is clipped.
TEST(Fp8ToIntSym, Fp8MaxScaleIsAFactorOfTheOuterScale) {
  const Tensor weight = random_tensor(DType::kF32, {6, 160}, 0.02f, 1);
  TensorScheme scheme = w4fp8(32);
  const auto outer_scale = [&] {
    const TensorSet encoded = TunedLayer(scheme, weight, 1).encode(false);
    return *encoded[2].as<float>();
  };
  float largest = 0;
  for (int64_t i = 0; i < weight.elements(); ++i) largest = std::max(largest, std::fabs(weight.as<float>()[i]));
  EXPECT_EQ(outer_scale(), largest / 448);
  scheme.options["weight_fp8_max_scale"] = 0.5;
  EXPECT_EQ(outer_scale(), largest * 0.5f / 448);
}

TEST(Fp8ToIntSym, SaysWhatItCannotDo) {
  const auto refusal = [](const TensorScheme& scheme, int32_t target = RH_TARGET_WEIGHT) {
    return failure([&] {
      check_dtype(catalogue().dtype(scheme.dtype), scheme, {"layer.0", "", 8, 64, DType::kBF16, target});
    });
  };
  EXPECT_EQ(refusal(w4fp8(32)), "");
  EXPECT_NE(refusal(w4fp8(32), RH_TARGET_ACTIVATION).find("weights only"), std::string::npos);
  TensorScheme scheme = w4fp8(32);
  scheme.symmetric = false;
  EXPECT_NE(refusal(scheme).find("set sym to true"), std::string::npos);
  scheme = w4fp8(32);
  scheme.scale_dtype = DType::kF16;
  EXPECT_NE(refusal(scheme).find("bfloat16 scales"), std::string::npos);
}

TEST(Fp8ToIntSym, RefusesNaN) {
  const Tensor weight = random_tensor(DType::kF32, {4, 100}, 0.02f, 1);
  weight.as<float>()[70] = std::nanf("");
  EXPECT_NE(failure([&] { TunedLayer(w4fp8(32), weight, 1); }).find("holds NaN or infinity"), std::string::npos);
}

}  // namespace
}  // namespace roundhouse
