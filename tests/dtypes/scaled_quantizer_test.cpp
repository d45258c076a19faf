// SPDX-License-Identifier: Apache-2.0
// The data types fp8, mx_fp, mx_int and nv_fp through their C ABI: what the goldens of weights do not show.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "host/checkpoint/safetensors.h"
#include "host/plan/scheme_resolver.h"
#include "tests/dtypes/tuned_layer.h"

namespace roundhouse {
namespace {

using nlohmann::json;

TensorScheme scheme_of(const std::string& name, const json& said, Rounding rounding = Rounding::kTuned) {
  return resolve_dtype(catalogue(), {name, said, {}, rounding});
}

struct Case {
  const char* name;
  json said;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all{
      {"fp8", {{"bits", 8}, {"group_size", -1}}},
      {"fp8", {{"bits", 8}, {"group_size", 0}}},
      {"fp8", {{"bits", 8}, {"group_size", 48}}},
      {"fp8_e5m2", {{"group_size", 64}}},
      {"fp8", {{"bits", 8}, {"group_size", 64}, {"scale_dtype", "bfloat16"}}},
      {"fp8_e5m2", {{"group_size", 64}, {"scale_dtype", "float16"}}},
      {"fp8_block", json::object()},
      {"fp8", {{"bits", 8}, {"group_size", {4, 64}}}},
      {"fp8", {{"bits", 8}, {"group_size", {4, 64}}, {"scale_dtype", "bfloat16"}}},
      {"fp8_unit_scale", {{"group_size", -1}}},
      {"mx_fp4", {{"group_size", 32}}},
      {"mx_fp6", {{"group_size", 32}}},
      {"mx_fp6e3m2", {{"group_size", 32}}},
      {"mx_fp8", {{"group_size", 32}}},
      {"mx_fp8e5m2", {{"group_size", 32}}},
      {"mx_fp4_rceil", {{"group_size", 32}}},
      {"mx_fp4_rceil_v2", {{"group_size", 32}}},
      {"mx_int8", {{"group_size", 32}}},
      {"mx_int4", {{"group_size", 32}}},
      {"mx_int2", {{"group_size", 32}}},
      {"nv_fp4", {{"group_size", 16}}},
      {"nvfp4_v2", {{"group_size", 16}}},
      {"nvfp4_v2", {{"group_size", 32}}},
  };
  return all;
}

// Every case with every element type of the weight, and a weight whose groups end within rows and blocks.
template <typename Body>
void for_layers(Body&& body) {
  uint32_t seed = 0;
  for (const Case& c : cases()) {
    for (DType type : {DType::kF32, DType::kF16, DType::kBF16}) {
      SCOPED_TRACE(cat(c.name, " ", c.said, " ", config_name(type)));
      ++seed;
      body(TunedLayer(scheme_of(c.name, c.said), random_tensor(type, {6, 168}, 0.02f, seed), seed));
      if (testing::Test::HasFailure()) return;
    }
  }
}

TEST(ScaledQuantizer, DecodeOfEncodeIsForward) {
  for_layers([](TunedLayer layer) {
    expect_decode_of_encode_is_forward(layer, true);
    expect_decode_of_encode_is_forward(layer, false);
  });
}

TEST(ScaledQuantizer, SignStepIsBackwardAndSign) {
  for_layers([](TunedLayer layer) { expect_sign_step_is_backward_and_sign(layer); });
}

TEST(ScaledQuantizer, NoResultDependsOnTheThreadCount) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(cat(c.name, " ", c.said));
    expect_same_for_any_thread_count(scheme_of(c.name, c.said), random_tensor(DType::kBF16, {300, 512}, 0.02f, 1));
  }
}

TEST(ScaledQuantizer, SearchHasTheLeastError) {
  for (const char* name : {"mx_fp4", "mx_int4", "nv_fp4", "nvfp4_v2"}) {
    const Tensor weight = random_tensor(DType::kF32, {32, 256}, 0.02f, 1);
    double errors[2] = {};
    for (Rounding rounding : {Rounding::kPlain, Rounding::kSearch}) {
      const json said{{"group_size", std::string(name).starts_with("mx") ? 32 : 16}};
      const Tensor qdq = TunedLayer(scheme_of(name, said, rounding), weight, 1).forward(false, DType::kF32);
      for (int64_t i = 0; i < qdq.elements(); ++i)
        errors[rounding == Rounding::kSearch] += std::pow(qdq.as<float>()[i] - weight.as<float>()[i], 2);
    }
    EXPECT_LT(errors[1], 0.99 * errors[0]) << name;
  }
}

// Without a change by tuning it is the search's result; the factor of the range goes to 2.
TEST(ScaledQuantizer, TuningStartsFromTheSearchedScale) {
  for (const char* name : {"mx_fp4", "mx_int4", "nv_fp4", "nvfp4_v2"}) {
    SCOPED_TRACE(name);
    const Tensor weight = random_tensor(DType::kF32, {32, 256}, 0.02f, 1);
    const json said{{"group_size", std::string(name).starts_with("mx") ? 32 : 16}};
    TunedLayer found(scheme_of(name, said, Rounding::kSearch), weight, 1);
    TunedLayer layer(scheme_of(name, said, Rounding::kTunedSearch), weight, 1);
    expect_decode_of_encode_is_forward(layer, true);
    expect_sign_step_is_backward_and_sign(layer);
    for (size_t i = 0; i < layer.tunables.size(); ++i)
      std::fill_n(layer.tunables[i].as<float>(), layer.tunables[i].elements(), i == 0 ? 0.0f : 1.0f);
    const auto same = [&] {
      const Tensor a = layer.forward(true, DType::kF32), b = found.forward(false, DType::kF32);
      return std::equal(a.as<float>(), a.as<float>() + a.elements(), b.as<float>());
    };
    EXPECT_TRUE(same());
    const rh_tensor_spec& spec = *layer.quantizer.info().tunables[1];
    EXPECT_EQ(spec.clamp_max, 2);
    std::fill_n(layer.tunables[1].as<float>(), layer.tunables[1].elements(), 2.0f);
    EXPECT_FALSE(same());
  }
}

// ---- recorded activations, and a weight with siblings ----

std::vector<json> recorded(const std::string& key) {
  std::vector<json> all;
  for (const char* list : {"fp8", "mxfp", "nvfp"}) {
    std::ifstream file(cat(TEST_DATA, "/goldens/", list, ".json"));
    const json content = json::parse(file);
    if (content.contains(key)) all.insert(all.end(), content.at(key).begin(), content.at(key).end());
  }
  return all;
}

void expect_same(const Tensor& actual, const Tensor& expected, const std::string& what) {
  ASSERT_EQ(config_name(actual.dtype()), config_name(expected.dtype())) << what;
  const Tensor a = actual.to(DType::kF32), e = expected.to(DType::kF32);
  ASSERT_EQ(a.elements(), e.elements()) << what;
  for (int64_t i = 0; i < e.elements(); ++i)
    ASSERT_EQ(std::memcmp(a.as<float>() + i, e.as<float>() + i, 4), 0)
        << what << "[" << i << "] is " << a.as<float>()[i] << ", expected " << e.as<float>()[i];
}

json said_of(const json& golden) {
  json said = golden.at("options");
  said.erase("data_type");
  return said;
}

TEST(ScaledActivation, MatchesTheReference) {
  const std::vector<json> all = recorded("activations");
  ASSERT_GE(all.size(), 10u);
  for (const json& golden : all) {
    SCOPED_TRACE(golden.at("file"));
    SafetensorsFolder file(cat(TEST_DATA, "/goldens/", golden.at("file").get<std::string>()));
    const Tensor input = file.load("input");
    const TensorScheme scheme = scheme_of(golden.at("dtype"), said_of(golden), Rounding::kPlain);
    Quantizer quantizer(catalogue().dtype(scheme.dtype), scheme,
                        {"layer.0", "", -1, input.dim(1), input.dtype(), RH_TARGET_ACTIVATION});
    const bool calibrated = file.contains("statistic");
    ASSERT_EQ(quantizer.info().statistic != nullptr, calibrated);
    TensorSet states = quantizer.states(), encoded = quantizer.encoded();
    if (calibrated) {
      EXPECT_EQ(quantizer.info().reduce, RH_REDUCE_MAX);
      const Tensor statistic = file.load("statistic");
      const rh_tensor view = statistic.view();
      quantizer.prepare({}, nullptr, nullptr, &view, states.data());
      quantizer.encode({}, input.view(), nullptr, states.data(), encoded.data());
      ASSERT_EQ(encoded.size(), 1u);
      expect_same(encoded[0], file.load(encoded.name(0)), encoded.name(0));
    } else {
      EXPECT_EQ(states.size(), 0u);
      EXPECT_EQ(encoded.size(), 0u);
    }
    const Tensor qdq(input.dtype(), input.shape());
    const rh_tensor view = input.view();
    rh_tensor output = qdq.view();
    quantizer.forward({}, view, nullptr, states.data(), output);
    expect_same(qdq, file.load("qdq"), "qdq");
  }
}

TEST(ScaledActivation, MeasuresTheLargestMagnitude) {
  const TensorScheme scheme = scheme_of("fp8", {{"bits", 8}, {"group_size", 0}, {"dynamic", false}}, Rounding::kPlain);
  Quantizer quantizer(catalogue().dtype(scheme.dtype), scheme,
                      {"layer.0", "", -1, 100, DType::kBF16, RH_TARGET_ACTIVATION});
  Tensor input = random_tensor(DType::kF32, {7, 100}, 1.0f, 1);
  input.as<float>()[333] = -50.0f;
  input = input.to(DType::kBF16);
  TensorSet statistic = quantizer.statistic();
  quantizer.measure({}, input.view(), statistic.data()[0]);
  EXPECT_EQ(*statistic[0].as<float>(), 50.0f);
}

// Straight through where nothing was clamped.
TEST(ScaledActivation, GradientOfTheInputIsStraightThrough) {
  const TensorScheme scheme = scheme_of("fp8", {{"bits", 8}, {"group_size", 0}, {"dynamic", false}}, Rounding::kPlain);
  Quantizer quantizer(catalogue().dtype(scheme.dtype), scheme,
                      {"layer.0", "", -1, 64, DType::kF32, RH_TARGET_ACTIVATION});
  const Tensor input = random_tensor(DType::kF32, {5, 64}, 1.0f, 1),
               grad = random_tensor(DType::kF32, {5, 64}, 1.0f, 2);
  const Tensor statistic(DType::kF32, {1});
  *statistic.as<float>() = 1.0f;
  TensorSet states = quantizer.states();
  const rh_tensor range = statistic.view();
  quantizer.prepare({}, nullptr, nullptr, &range, states.data());
  const Tensor actual(DType::kF32, {5, 64});
  const rh_tensor view = input.view(), gradient = grad.view();
  rh_tensor out = actual.view();
  quantizer.backward({}, view, nullptr, states.data(), gradient, nullptr, &out);
  int clamped = 0;
  for (int64_t i = 0; i < input.elements(); ++i) {
    const bool inside = std::fabs(input.as<float>()[i]) <= 1.0f;
    clamped += !inside;
    ASSERT_EQ(actual.as<float>()[i], inside ? grad.as<float>()[i] : 0.0f) << i;
  }
  EXPECT_GT(clamped, 20);
}

TEST(ScaledQuantizer, SiblingsShareTheGlobalScale) {
  for (const json& golden : recorded("shared")) {
    SafetensorsFolder file(cat(TEST_DATA, "/goldens/", golden.at("file").get<std::string>()));
    const Tensor weight = file.load("weight"), statistic = file.load("statistic");
    const TensorScheme scheme = scheme_of(golden.at("dtype"), said_of(golden), Rounding::kPlain);
    Quantizer quantizer(catalogue().dtype(scheme.dtype), scheme, target_of(weight));
    EXPECT_TRUE(quantizer.info().flags & RH_QUANTIZER_SHARED_STATISTIC);
    EXPECT_EQ(quantizer.info().reduce, RH_REDUCE_MAX);
    TensorSet states = quantizer.states(), results = quantizer.results();
    const rh_tensor view = weight.view(), measured = statistic.view();
    quantizer.prepare({}, &view, nullptr, &measured, states.data());
    const Tensor qdq(weight.dtype(), weight.shape());
    rh_tensor output = qdq.view();
    quantizer.forward({}, view, nullptr, states.data(), output, results.data());
    expect_same(qdq, file.load("qdq"), "qdq");
    expect_same(results[0], file.load("scale"), "scale");
  }
}

void expect_refused(const std::string& name, const json& said, const std::string& reason,
                    int32_t target = RH_TARGET_WEIGHT, Rounding rounding = Rounding::kPlain) {
  const std::string message = failure([&] {
    const TensorScheme scheme = scheme_of(name, said, rounding);
    check_dtype(catalogue().dtype(scheme.dtype), scheme, {"layer.0", "", 8, 64, DType::kBF16, target});
  });
  EXPECT_NE(message.find(reason), std::string::npos) << "\"" << message << "\" does not say \"" << reason << "\"";
}

TEST(ScaledQuantizer, RefusesWhatItCannotDo) {
  for (const Case& c : cases()) {
    const TensorScheme scheme = scheme_of(c.name, c.said);
    EXPECT_EQ(failure([&] {
                check_dtype(catalogue().dtype(scheme.dtype), scheme, {"layer.0", "", 8, 64, DType::kBF16});
              }),
              "")
        << c.name;
  }
  expect_refused("fp8", {{"bits", 4}}, "set bits to 8");
  expect_refused("fp8", {{"bits", 8}, {"sym", false}}, "set sym to true");
  expect_refused("fp8", {{"bits", 8}, {"super_bits", 6}}, "super_bits");
  expect_refused("fp8", {{"bits", 8}, {"q_scale_thresh", 1e-4}}, "q_scale_thresh");
  expect_refused("fp8", {{"bits", 8}, {"weight_fp8_max_scale", 0.5}}, "weight_fp8_max_scale");
  expect_refused("fp8", {{"bits", 8}, {"scale_dtype", "int8"}}, "scale_dtype");
  expect_refused("fp8", {{"bits", 8}, {"options", {{"element", "e3m4"}}}},
                 "element of the data type fp8 is e3m4 (did you mean e4m3?), not one of e4m3, e5m2");
  expect_refused("fp8", {{"bits", 8}, {"options", {{"secret", 1}}}},
                 "no option \"secret\". Its options: element, scale");
  expect_refused("fp8", {{"bits", 8}, {"group_size", -1}}, "search", RH_TARGET_WEIGHT, Rounding::kSearch);
  expect_refused("fp8", {{"bits", 8}, {"group_size", 128}, {"dynamic", false}}, "set act_group_size to 0",
                 RH_TARGET_ACTIVATION);
  expect_refused("fp8_block", json::object(), "2-D groups", RH_TARGET_ACTIVATION);
  expect_refused("mx_fp", {{"bits", 5}, {"group_size", 32}}, "elements of 4, 6, 8 bits, not 5");
  expect_refused("mx_int", {{"bits", 6}, {"group_size", 32}}, "elements of 8, 4, 2 bits, not 6");
  expect_refused("mx_fp4", {{"group_size", 16}}, "set group_size to 32");
  expect_refused("mx_fp4", {{"group_size", 32}, {"options", {{"element", "fp8_e4m3"}}}}, "it may be fp4_e2m1");
  expect_refused("mx_fp8", {{"group_size", 32}, {"options", {{"exponent", "rceil_v2"}}}}, "rceil_v2 is for fp4_e2m1");
  expect_refused("mx_fp4", {{"group_size", 32}, {"scale_dtype", "float16"}}, "scale_dtype");
  expect_refused("nv_fp", {{"bits", 8}, {"group_size", 16}}, "4 bits");
  expect_refused("nv_fp4", {{"group_size", 32}}, "set group_size to 16");
  expect_refused("nvfp4_v2", {{"group_size", 64}}, "16 or 32");
  expect_refused("nvfp4_v2", {{"group_size", 16}, {"options", {{"global_scale", "static"}}}}, "no global scale");
}

TEST(ScaledQuantizer, NamesTheGroupWithANaN) {
  const auto message = [](const char* name, const json& said) {
    Tensor weight = random_tensor(DType::kF32, {12, 100}, 0.02f, 1);
    weight.as<float>()[6 * 100 + 70] = std::nanf("");
    return failure([&] { TunedLayer(scheme_of(name, said), weight, 1); });
  };
  for (const auto& [text, where] :
       {std::pair{message("mx_fp4", {{"group_size", 32}}), "layer.0: the weight in row 6, columns 64 to 95, holds NaN"},
        std::pair{message("nv_fp4", {{"group_size", 16}}), "the weight in row 6, columns 64 to 79, holds NaN"},
        std::pair{message("fp8", {{"bits", 8}, {"group_size", {4, 64}}}), "rows 4 to 7, columns 64 to 99, holds NaN"},
        std::pair{message("fp8_unit_scale", {{"group_size", -1}}), "row 6, columns 0 to 99, holds NaN"}})
    EXPECT_NE(text.find(where), std::string::npos) << "\"" << text << "\" does not say \"" << where << "\"";
  Tensor large = random_tensor(DType::kF32, {4, 64}, 0.02f, 1);
  large.as<float>()[5] = 1e38f;
  const TensorScheme scheme = scheme_of("fp8", {{"bits", 8}, {"group_size", -1}, {"scale_dtype", "float16"}});
  EXPECT_NE(failure([&] { TunedLayer(scheme, large, 1); }).find("a scale beyond float16"), std::string::npos);
}

TEST(ScaledQuantizer, DeclaresShapes) {
  const auto shapes = [&](const char* name, const json& said) {
    TunedLayer layer(scheme_of(name, said), random_tensor(DType::kBF16, {6, 100}, 0.02f, 1), 1);
    const TensorSet results = layer.quantizer.results(), encoded = layer.quantizer.encoded();
    std::string text = cat(shape_text(layer.tunables[0].shape()), shape_text(results[0].shape()));
    for (size_t i = 1; i < encoded.size(); ++i) text += cat(" ", encoded.name(i), shape_text(encoded[i].shape()));
    return cat(text, " ", layer.quantizer.info().encoding->parameters_json);
  };
  EXPECT_EQ(shapes("fp8", {{"bits", 8}, {"group_size", 32}}),
            R"([24, 32][24, 1] scale[6, 4] {"element": "e4m3", "group_cols": 32, "group_rows": 1})");
  EXPECT_EQ(shapes("fp8_e5m2", {{"group_size", 0}}),
            R"([1, 600][1, 1] scale[1, 1] {"element": "e5m2", "group_cols": 100, "group_rows": 6})");
  EXPECT_EQ(shapes("fp8", {{"bits", 8}, {"group_size", {4, 64}}}),
            R"([2, 2, 4, 64][2, 2] scale[2, 2] {"element": "e4m3", "group_cols": 64, "group_rows": 4})");
  EXPECT_EQ(shapes("fp8_unit_scale", {{"group_size", -1}}),
            R"([6, 100][1] {"element": "e4m3", "group_cols": 100, "group_rows": 1})");
  EXPECT_EQ(shapes("mx_int4", {{"group_size", 32}}),
            R"([24, 32][24, 1] scale[6, 4] {"element": "int4", "group_cols": 32})");
  EXPECT_EQ(shapes("nv_fp4", {{"group_size", 16}}),
            R"([42, 16][42, 1] scale[6, 7] global_scale[1] {"scale": "e4m3", "group_cols": 16})");
  EXPECT_EQ(shapes("nvfp4_v2", {{"group_size", 32}}),
            R"([24, 32][24, 1] scale[6, 4] {"scale": "ue5m3", "group_cols": 32})");
}

}  // namespace
}  // namespace roundhouse
