// SPDX-License-Identifier: Apache-2.0
// Searched rounding of int.
#include "tests/dtypes/tuned_layer.h"

namespace roundhouse {
namespace {

TensorScheme searched(int bits, int64_t group, bool symmetric = true) {
  TensorScheme scheme = int_scheme(bits, symmetric, group);
  scheme.rounding = Rounding::kSearch;
  return scheme;
}

// Of each group, weighted by importance when there is some.
std::vector<double> errors(TunedLayer& layer, int64_t group, const Tensor* importance) {
  const Tensor w = layer.weight.to(DType::kF32), q = layer.forward(false, DType::kF32);
  const int64_t rows = w.dim(0), cols = w.dim(1), width = group < 0 ? cols : group,
                per_row = (cols + width - 1) / width;
  std::vector<double> out(rows * per_row);
  for (int64_t i = 0; i < w.elements(); ++i) {
    const double error = static_cast<double>(w.as<float>()[i]) - q.as<float>()[i];
    out[i / cols * per_row + i % cols / width] += error * error * (importance ? importance->as<float>()[i % cols] : 1);
  }
  return out;
}

// Plain rounding's scale and zero point are the first candidate. With a float32 weight and scale nothing but the search
// differs.
void expect_less_error(bool symmetric) {
  uint32_t seed = 0;
  for (int bits = 2; bits <= 8; ++bits) {
    for (int64_t group : {32, 48, -1}) {
      for (bool weighted : {false, true}) {
        const Tensor weight = random_tensor(DType::kF32, {6, 160}, 0.02f, ++seed);
        const Tensor importance = random_tensor(DType::kF32, {160}, 1.0f, seed + 1000);
        for (int64_t i = 0; i < 160; ++i) importance.as<float>()[i] = std::fabs(importance.as<float>()[i]) + 0.01f;
        const Tensor* given = weighted ? &importance : nullptr;
        TensorScheme plain = int_scheme(bits, symmetric, group), best = searched(bits, group, symmetric);
        plain.scale_dtype = best.scale_dtype = DType::kF32;
        TunedLayer before(plain, weight, 1), after(best, weight, 1, given);
        const std::vector<double> e = errors(before, group, given), a = errors(after, group, given);
        double total_before = 0, total_after = 0;
        for (size_t i = 0; i < e.size(); ++i) {
          // Losses are summed in float32.
          EXPECT_LE(a[i], e[i] * (1 + 1e-5)) << bits << " bits, groups of " << group << ", group " << i;
          total_before += e[i];
          total_after += a[i];
        }
        EXPECT_LT(total_after, total_before) << bits << " bits, groups of " << group;
        if (!symmetric && bits < 4) {
          EXPECT_LT(total_after, 0.9 * total_before) << bits << " bits, groups of " << group;
        }
      }
    }
  }
}
TEST(IntSearch, ErrorIsNeverAbovePlainRoundings) { expect_less_error(true); }
TEST(IntSearch, ErrorWithZeroPointsIsNeverAbovePlainRoundings) { expect_less_error(false); }

TEST(IntSearch, DecodeOfEncodeIsForward) {
  for (int bits : {2, 3, 4, 8})
    for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16})
      for (int64_t group : {32, 48, -1})
        for (bool symmetric : {true, false}) {
          TunedLayer layer(searched(bits, group, symmetric), random_tensor(dtype, {6, 160}, 0.02f, 1), 1);
          expect_decode_of_encode_is_forward(layer, false);
        }
}

// The searched scale times the factor, which goes to 2; on it the formula of tuned rounding.
TEST(IntSearch, TuningStartsFromTheSearchedScale) {
  for (int bits : {2, 3, 4, 8})
    for (DType dtype : {DType::kF32, DType::kBF16})
      for (bool weighted : {false, true}) {
        SCOPED_TRACE(cat(bits, " bits of ", config_name(dtype)));
        const Tensor weight = random_tensor(dtype, {6, 160}, 0.02f, bits);
        Tensor importance = random_tensor(DType::kF32, {160}, 1.0f, 7);
        for (int64_t i = 0; i < 160; ++i) importance.as<float>()[i] = std::fabs(importance.as<float>()[i]) + 0.01f;
        TensorScheme scheme = searched(bits, 32);
        TunedLayer found(scheme, weight, 1, weighted ? &importance : nullptr);
        const TensorSet encoded = found.encode(false);
        scheme.rounding = Rounding::kTunedSearch;
        TunedLayer layer(scheme, weight, 1, weighted ? &importance : nullptr);
        const Tensor v = layer.tunables[0], low = layer.tunables[1], high = layer.tunables[2];
        for (int64_t g = 0; g < low.elements(); ++g)
          low.as<float>()[g] = high.as<float>()[g] = 0.7f + 0.05f * static_cast<float>(g % 40);
        EXPECT_EQ(layer.quantizer.info().tunables[1]->clamp_max, 2);
        expect_decode_of_encode_is_forward(layer, true);

        const Tensor got = layer.forward(true, DType::kF32), w = weight.to(DType::kF32),
                     scales = encoded[1].to(DType::kF32);
        const float levels = static_cast<float>(1 << (bits - 1));
        for (int64_t i = 0; i < w.elements(); ++i) {
          const int64_t g = i / 32;
          Tensor scale(DType::kF32, {1});
          *scale.as<float>() = scales.as<float>()[g] * std::min(low.as<float>()[g], 2.0f);
          float s = *scale.to(DType::kF16).to(DType::kF32).as<float>();
          if (std::fabs(s) < 1e-5f)
            s = std::copysign(
                *[] {
                  Tensor least(DType::kF32, {1});
                  *least.as<float>() = 1e-5f;
                  return least.to(DType::kF16).to(DType::kF32);
                }()
                     .as<float>(),
                s);
          const float code = std::clamp(std::nearbyint(w.as<float>()[i] / s + v.as<float>()[i]), -levels, levels - 1);
          Tensor expected(DType::kF32, {1});
          *expected.as<float>() = s * code;
          ASSERT_EQ(got.as<float>()[i], *expected.to(dtype).to(DType::kF32).as<float>()) << i;
        }
      }
}

TEST(IntSearch, ASignStepGoesToTwiceTheSearchedScale) {
  TensorScheme scheme = searched(4, 32);
  scheme.rounding = Rounding::kTunedSearch;
  const Tensor weight = random_tensor(DType::kBF16, {6, 160}, 0.02f, 1);
  TunedLayer layer(scheme, weight, 1);
  expect_sign_step_is_backward_and_sign(layer);
  layer.sign_step(random_tensor(DType::kF32, weight.shape(), 1.0f, 3), 0.0f, 5.0f);
  float most = 0;
  for (size_t i : {1, 2})
    for (int64_t g = 0; g < layer.tunables[i].elements(); ++g) most = std::max(most, layer.tunables[i].as<float>()[g]);
  EXPECT_EQ(most, 2);
}

// With factors of 1 tuned rounding is that of the searched range, and its error no more than that of the plain one.
TEST(IntSearch, TuningStartsFromTheSearchedZeroPoint) {
  for (int bits : {2, 4}) {
    const Tensor weight = random_tensor(DType::kF32, {6, 160}, 0.02f, bits);
    TensorScheme scheme = searched(bits, 32, false);
    TunedLayer found(scheme, weight, 1);
    scheme.rounding = Rounding::kTunedSearch;
    TunedLayer layer(scheme, weight, 1);
    std::fill_n(layer.tunables[0].as<float>(), layer.tunables[0].elements(), 0.0f);
    for (size_t i : {1, 2}) std::fill_n(layer.tunables[i].as<float>(), layer.tunables[i].elements(), 1.0f);
    EXPECT_EQ(bytes_of(layer.forward(true, DType::kF32)), bytes_of(found.forward(false, DType::kF32))) << bits;
    expect_decode_of_encode_is_forward(layer, true);
    expect_sign_step_is_backward_and_sign(layer);
  }
}

TEST(IntSearch, TuningStartsFromNoSearchOfMirroredRanges) {
  TensorScheme scheme = int_scheme(4, true, 32);
  scheme.rounding = Rounding::kTunedSearch;
  scheme.options["mirrored"] = true;
  const std::string message = failure([&] { TunedLayer(scheme, random_tensor(DType::kBF16, {6, 160}, 0.02f, 1), 1); });
  EXPECT_NE(message.find("omit mirrored, or set tuning.algorithm to signround"), std::string::npos) << message;
}

TEST(IntSearch, NoResultDependsOnTheThreadCount) {
  expect_same_for_any_thread_count(searched(4, 128));
  expect_same_for_any_thread_count(searched(4, 128, false));
}

TEST(IntSearch, RefusesImportanceOfAnotherLength) {
  const Tensor importance = random_tensor(DType::kF32, {161}, 1.0f, 1);
  const std::string message = failure([&] {
    TunedLayer(searched(4, 32), random_tensor(DType::kBF16, {6, 160}, 0.02f, 1), 1, &importance);
  });
  EXPECT_NE(message.find("float32 [160]"), std::string::npos) << message;
  EXPECT_NE(message.find("161 elements"), std::string::npos) << message;
}

}  // namespace
}  // namespace roundhouse
