// The data type int through its C ABI: what the goldens do not show.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "host/base/error.h"
#include "host/base/parallel.h"
#include "host/plugins/quantizer.h"
#include "host/plugins/scheme.h"
#include "tests/golden/built_plugins.h"

namespace roundhouse {
namespace {

Catalogue& catalogue() {
  static Catalogue built = discover_built_plugins();
  return built;
}

TensorScheme int_scheme(int bits, bool symmetric, int64_t group_cols) {
  TensorScheme scheme;
  scheme.dtype = "int";
  scheme.bits = bits;
  scheme.symmetric = symmetric;
  scheme.group_cols = group_cols;
  scheme.rounding = Rounding::kTuned;
  return scheme;
}

QuantizerTarget target_of(const Tensor& weight) {
  return {"layer.0", "", weight.dim(0), weight.dim(1), weight.dtype(), RH_TARGET_WEIGHT};
}

Tensor random_tensor(DType dtype, std::vector<int64_t> shape, float spread, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, spread);
  Tensor out(DType::kF32, std::move(shape));
  for (int64_t i = 0; i < out.elements(); ++i) out.as<float>()[i] = normal(random);
  return out.to(dtype);
}

std::vector<char> bytes_of(const Tensor& t) { return {t.as<char>(), t.as<char>() + t.bytes()}; }

// A quantizer with its weight, tunables away from their initial values, and states.
struct Tuned {
  Tuned(const TensorScheme& scheme, Tensor weight, uint32_t seed)
      : weight(std::move(weight)),
        quantizer(catalogue(), scheme, target_of(this->weight)),
        tunables(quantizer.tunables()),
        states(quantizer.states()) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<float> unit(0.0f, 1.0f);
    for (size_t i = 0; i < tunables.size(); ++i)
      for (int64_t j = 0; j < tunables[i].elements(); ++j)
        tunables[i].as<float>()[j] = i == 0 ? unit(random) - 0.5f : 1.0f - 0.01f * (random() % 30);
    const rh_tensor view = this->weight.view();
    quantizer.prepare({}, &view, nullptr, nullptr, states.data());
  }

  const rh_tensor* const* given(bool tuned) const { return tuned ? tunables.data() : nullptr; }

  Tensor forward(bool tuned, DType type) {
    const rh_tensor view = weight.view();
    const Tensor qdq(type, weight.shape());
    rh_tensor output = qdq.view();
    quantizer.forward({}, view, given(tuned), states.data(), output);
    return qdq;
  }

  TensorSet encode(bool tuned) {
    const rh_tensor view = weight.view();
    TensorSet encoded = quantizer.encoded();
    quantizer.encode({}, view, given(tuned), states.data(), encoded.data());
    return encoded;
  }

  TensorSet backward(const Tensor& gradient) {
    const rh_tensor view = weight.view(), grad = gradient.view();
    TensorSet gradients = quantizer.tunables();
    quantizer.backward({}, view, tunables.data(), states.data(), grad, gradients.data());
    return gradients;
  }

  void sign_step(const Tensor& gradient, float rounding_rate, float range_rate) {
    const rh_tensor view = weight.view(), grad = gradient.view();
    const Tensor rates[] = {Tensor(DType::kF32, {}), Tensor(DType::kF32, {})};
    *rates[RH_LR_ROUNDING].as<float>() = rounding_rate;
    *rates[RH_LR_RANGE].as<float>() = range_rate;
    const rh_tensor views[] = {rates[0].view(), rates[1].view()};
    const rh_tensor* pointers[] = {&views[0], &views[1]};
    quantizer.sign_step({}, view, tunables.data(), states.data(), grad, pointers);
  }

  Tensor weight;
  Quantizer quantizer;
  TensorSet tunables, states;
};

// Every bit width, kind, element type and a group size that divides the columns, one that does not, a row, the tensor.
template <typename Body>
void for_schemes(Body&& body) {
  uint32_t seed = 0;
  for (int bits = 2; bits <= 8; ++bits) {
    for (bool symmetric : {true, false}) {
      for (DType weight : {DType::kF32, DType::kF16, DType::kBF16}) {
        for (DType scale : {DType::kF32, DType::kF16, DType::kBF16}) {
          for (int64_t group : {32, 48, -1, 0, 1000}) {
            TensorScheme scheme = int_scheme(bits, symmetric, group);
            scheme.scale_dtype = scale;
            ++seed;
            SCOPED_TRACE(cat(bits, " bits, ", symmetric ? "symmetric" : "asymmetric", ", groups of ", group, ", ",
                             config_name(weight), " weight, ", config_name(scale), " scale"));
            body(Tuned(scheme, random_tensor(weight, {6, 160}, 0.02f, seed), seed));
            if (testing::Test::HasFailure()) return;
          }
        }
      }
    }
  }
}

TEST(IntQuantizer, DecodeOfEncodeIsForward) {
  for_schemes([](Tuned layer) {
    for (bool tuned : {true, false}) {
      const Tensor forward = layer.forward(tuned, layer.weight.dtype());
      TensorSet encoded = layer.encode(tuned);
      const Tensor decoded(layer.weight.dtype(), layer.weight.shape());
      rh_tensor output = decoded.view();
      layer.quantizer.decode({}, encoded.data(), output);
      const Tensor a = decoded.to(DType::kF32), e = forward.to(DType::kF32);
      for (int64_t i = 0; i < a.elements(); ++i) {
        const float actual = a.as<float>()[i], expected = e.as<float>()[i];
        // Plain symmetric rounding keeps the sign of a zero, as the reference; codes have one zero.
        ASSERT_TRUE(std::memcmp(&actual, &expected, 4) == 0 || (!tuned && actual == 0 && expected == 0))
            << (tuned ? "tuned" : "plain") << " element " << i << ": forward " << expected << ", decoded " << actual;
      }
    }
  });
}

TEST(IntQuantizer, SignStepIsBackwardAndSign) {
  const float rates[] = {0.01f, 0.005f, 0.005f};
  for_schemes([&](Tuned layer) {
    const Tensor gradient = random_tensor(layer.weight.dtype(), layer.weight.shape(), 1.0f, 7);
    TensorSet expected = layer.backward(gradient);  // the gradients, then the stepped tunables
    for (size_t i = 0; i < expected.size(); ++i) {
      const rh_tensor_spec& spec = *layer.quantizer.info().tunables[i];
      for (int64_t j = 0; j < expected[i].elements(); ++j) {
        float& x = expected[i].as<float>()[j];
        const float stepped = layer.tunables[i].as<float>()[j] - rates[i] * static_cast<float>((x > 0) - (x < 0));
        x = std::fmin(std::fmax(stepped, static_cast<float>(spec.clamp_min)), static_cast<float>(spec.clamp_max));
      }
    }
    layer.sign_step(gradient, rates[0], rates[1]);
    for (size_t i = 0; i < expected.size(); ++i)
      ASSERT_EQ(bytes_of(layer.tunables[i]), bytes_of(expected[i])) << expected.name(i);
  });
}

TEST(IntQuantizer, OutputIsRoundedToTheWeightsTypeFirst) {
  for_schemes([](Tuned layer) {
    const Tensor own = layer.forward(true, layer.weight.dtype());
    for (DType type : {DType::kF32, DType::kF16, DType::kBF16})
      ASSERT_EQ(bytes_of(layer.forward(true, type)), bytes_of(own.to(type))) << config_name(type);
  });
}

TEST(IntQuantizer, OutputMayBeTheWeightItself) {
  for_schemes([](Tuned layer) {
    const Tensor expected = layer.forward(true, layer.weight.dtype());
    rh_tensor view = layer.weight.view();
    layer.quantizer.forward({}, view, layer.tunables.data(), layer.states.data(), view);
    ASSERT_EQ(bytes_of(layer.weight), bytes_of(expected));
  });
}

TEST(IntQuantizer, NoResultDependsOnTheThreadCount) {
  for (int64_t group : {128, -1, 0}) {
    std::vector<std::vector<char>> results[3];
    for (int threads : {1, 2, 3}) {
      set_threads(threads);
      Tuned layer(int_scheme(4, false, group), random_tensor(DType::kBF16, {700, 512}, 0.02f, 1), 2);
      const Tensor gradient = random_tensor(DType::kBF16, layer.weight.shape(), 1.0f, 3);
      auto& out = results[threads - 1];
      out.push_back(bytes_of(layer.forward(true, DType::kBF16)));
      TensorSet encoded = layer.encode(true), gradients = layer.backward(gradient);
      layer.sign_step(gradient, 0.01f, 0.005f);
      for (const TensorSet* set : {&encoded, &gradients, &layer.states, &layer.tunables})
        for (size_t i = 0; i < set->size(); ++i) out.push_back(bytes_of((*set)[i]));
    }
    set_threads(0);
    EXPECT_EQ(results[0], results[1]) << "group " << group;
    EXPECT_EQ(results[0], results[2]) << "group " << group;
  }
}

// What the message of the failing call says, or "" when it does not fail.
template <typename Call>
std::string failure(Call&& call) {
  try {
    call();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

void expect_refused(const TensorScheme& scheme, const std::string& reason, int32_t target = RH_TARGET_WEIGHT,
                    DType weight = DType::kBF16) {
  const std::string message = failure([&] {
    check_dtype(catalogue(), scheme, {"layer.0", "", 8, 64, weight, target});
  });
  EXPECT_NE(message.find(reason), std::string::npos) << "\"" << message << "\" does not say \"" << reason << "\"";
}

TEST(IntQuantizer, RefusesWhatItCannotDo) {
  const TensorScheme good = int_scheme(4, true, 32);
  EXPECT_EQ(failure([&] { check_dtype(catalogue(), good, {"layer.0", "", 8, 64, DType::kBF16}); }), "");

  expect_refused(int_scheme(1, true, 32), "2 to 8 bits");
  expect_refused(int_scheme(9, true, 32), "2 to 8 bits");
  expect_refused(int_scheme(4, true, -2), "group_size -2");
  expect_refused(good, "weights only", RH_TARGET_ACTIVATION);
  expect_refused(good, "float32, float16 or bfloat16", RH_TARGET_WEIGHT, DType::kI8);
  TensorScheme scheme = good;
  scheme.rounding = Rounding::kSearch;
  expect_refused(scheme, "search");
  scheme = good;
  scheme.group_rows = 128;
  expect_refused(scheme, "groups of columns");
  scheme = good;
  scheme.super_bits = 6;
  expect_refused(scheme, "super_bits");
  scheme = good;
  scheme.scale_dtype = DType::kI8;
  expect_refused(scheme, "scale_dtype");
  scheme = good;
  scheme.scale_threshold = 1e-9;
  expect_refused(scheme, "q_scale_thresh 1e-09");
  scheme = good;
  scheme.options = {{"secret", 1}};
  expect_refused(scheme, "no options");
}

TEST(IntQuantizer, NamesTheGroupWithANaN) {
  for (float bad : {std::nanf(""), HUGE_VALF}) {
    Tensor weight = random_tensor(DType::kF32, {4, 100}, 0.02f, 1);
    weight.as<float>()[2 * 100 + 70] = bad;
    const std::string message = failure([&] { Tuned(int_scheme(4, true, 64), weight, 1); });
    EXPECT_NE(message.find("layer.0"), std::string::npos) << message;
    EXPECT_NE(message.find("row 2, columns 64 to 99, holds NaN or infinity"), std::string::npos) << message;
  }
}

TEST(IntQuantizer, RefusesARangeThatTheScaleCannotHold) {
  Tensor weight = random_tensor(DType::kF32, {4, 100}, 0.02f, 1);
  weight.as<float>()[5] = 1e6f;
  TensorScheme scheme = int_scheme(4, true, 64);
  const std::string message = failure([&] { Tuned(scheme, weight, 1); });
  EXPECT_NE(message.find("a scale beyond float16"), std::string::npos) << message;
  scheme.scale_dtype = DType::kF32;
  EXPECT_EQ(failure([&] { Tuned(scheme, weight, 1); }), "");
}

TEST(IntQuantizer, DeclaresShapes) {
  const Tensor weight = random_tensor(DType::kBF16, {6, 100}, 0.02f, 1);
  const auto shapes = [&](int64_t group) {
    Tuned layer(int_scheme(4, false, group), weight, 1);
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
