// SPDX-License-Identifier: Apache-2.0
// The data types of ggml's blocks through their C ABI: what the goldens do not show.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "host/base/parallel.h"
#include "host/checkpoint/safetensors.h"
#include "host/plan/scheme_resolver.h"
#include "tests/dtypes/tuned_layer.h"

namespace roundhouse {
namespace {

const char* const kTypes[] = {"q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k"};

TensorScheme scheme_of(const std::string& name, Rounding rounding = Rounding::kTuned,
                       const nlohmann::json& said = nlohmann::json::object()) {
  return resolve_dtype(catalogue(), {name, said, {}, rounding});
}

double squared_error(const Tensor& qdq, const Tensor& weight, const Tensor* importance = nullptr) {
  const Tensor q = qdq.to(DType::kF32), w = weight.to(DType::kF32);
  double sum = 0;
  for (int64_t i = 0; i < w.elements(); ++i) {
    const double error = q.as<float>()[i] - w.as<float>()[i];
    sum += (importance ? importance->as<float>()[i % w.dim(1)] : 1.0f) * error * error;
  }
  return sum;
}

double relative_error(const Tensor& qdq, const Tensor& weight) {
  return std::sqrt(squared_error(qdq, weight) / squared_error(Tensor(DType::kF32, weight.shape()), weight));
}

Tensor decode(TunedLayer& layer, const rh_tensor* const* blocks) {
  const Tensor decoded(layer.weight.dtype(), layer.weight.shape());
  rh_tensor output = decoded.view();
  layer.quantizer.decode({}, blocks, output);
  return decoded;
}

// Every type in every element type. Among the weights are a block of zeros and one that float16 scales cannot resolve.
template <typename Body>
void for_types(Body&& body) {
  uint32_t seed = 0;
  for (const std::string type : kTypes) {
    for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
      ++seed;
      SCOPED_TRACE(cat(type, ", ", config_name(dtype), " weight"));
      Tensor weight = random_tensor(DType::kF32, {6, 512}, 0.02f, seed);
      for (int64_t i = 0; i < 256; ++i) {
        weight.as<float>()[512 + i] = 0;
        weight.as<float>()[1024 + i] *= 1e-6f;
        weight.as<float>()[1536 + i] = std::fabs(weight.as<float>()[1536 + i]);
      }
      body(TunedLayer(scheme_of(type), weight.to(dtype), seed));
      if (testing::Test::HasFailure()) return;
    }
  }
}

TEST(GgmlQuantizer, DecodeOfEncodeIsForward) {
  for_types([](TunedLayer layer) {
    expect_decode_of_encode_is_forward(layer, true);
    expect_decode_of_encode_is_forward(layer, false);
  });
}

TEST(GgmlQuantizer, DecodeOfEncodeIsForwardOfASearch) {
  uint32_t seed = 0;
  for (const std::string type : kTypes) {
    for (DType dtype : {DType::kF32, DType::kBF16}) {
      SCOPED_TRACE(cat(type, ", ", config_name(dtype), " weight"));
      const Tensor weight = random_tensor(dtype, {4, 512}, 0.02f, ++seed);
      TunedLayer layer(scheme_of(type, Rounding::kSearch), weight, seed);
      expect_decode_of_encode_is_forward(layer, true);
      expect_decode_of_encode_is_forward(layer, false);
      TunedLayer plain(scheme_of(type, Rounding::kPlain), weight, seed);
      EXPECT_LT(squared_error(layer.forward(false, dtype), weight), squared_error(plain.forward(false, dtype), weight));
    }
  }
}

// Without a change by tuning it is the search's result, and v alone is tuned.
TEST(GgmlQuantizer, TuningStartsFromTheSearchedBlock) {
  for (const std::string type : kTypes) {
    SCOPED_TRACE(type);
    const Tensor weight = random_tensor(DType::kF32, {4, 512}, 0.02f, 1);
    TunedLayer found(scheme_of(type, Rounding::kSearch), weight, 1);
    TunedLayer layer(scheme_of(type, Rounding::kTunedSearch), weight, 1);
    ASSERT_EQ(layer.tunables.size(), 1u);
    expect_decode_of_encode_is_forward(layer, true);
    expect_sign_step_is_backward_and_sign(layer);
    std::fill_n(layer.tunables[0].as<float>(), layer.tunables[0].elements(), 0.0f);
    const Tensor a = layer.forward(true, DType::kF32), b = found.forward(false, DType::kF32);
    EXPECT_TRUE(std::equal(a.as<float>(), a.as<float>() + a.elements(), b.as<float>()));
  }
}

// The finished blocks that auto-round writes for the same weight, searched but for q4_0 to q8_0.
TEST(GgmlQuantizer, SearchIsAsGoodAsTheReferencesBlocks) {
  SafetensorsFolder recorded(std::string(TEST_DATA) + "/goldens/gguf_pack.safetensors");
  const Tensor weight = recorded.load("w"), importance = recorded.load("imatrix");
  for (const std::string type : kTypes) {
    for (const Tensor* weighs : {static_cast<const Tensor*>(nullptr), &importance}) {
      const std::string name = type + (weighs ? ".imat" : "");
      if (!recorded.contains(name)) continue;
      TunedLayer layer(scheme_of(type, Rounding::kSearch), weight, 1, weighs);
      const Tensor blocks = recorded.load(name);
      const rh_tensor view = blocks.view();
      const rh_tensor* tensors[] = {&view};
      EXPECT_LE(squared_error(layer.forward(false, DType::kF32), weight, weighs),
                1.001 * squared_error(decode(layer, tensors), weight, weighs))
          << name;
    }
  }
}

TEST(GgmlQuantizer, SignStepIsBackwardAndSign) {
  for_types([](TunedLayer layer) { expect_sign_step_is_backward_and_sign(layer); });
}

TEST(GgmlQuantizer, OutputIsRoundedToTheWeightsTypeFirst) {
  for_types([](TunedLayer layer) {
    const Tensor own = layer.forward(true, layer.weight.dtype());
    for (DType type : {DType::kF32, DType::kF16, DType::kBF16})
      ASSERT_EQ(bytes_of(layer.forward(true, type)), bytes_of(own.to(type))) << config_name(type);
  });
}

TEST(GgmlQuantizer, OutputMayBeTheWeightItself) {
  for_types([](TunedLayer layer) {
    const Tensor expected = layer.forward(true, layer.weight.dtype());
    rh_tensor view = layer.weight.view();
    layer.quantizer.forward({}, view, layer.tunables.data(), layer.states.data(), view);
    ASSERT_EQ(bytes_of(layer.weight), bytes_of(expected));
  });
}

TEST(GgmlQuantizer, NoResultDependsOnTheThreadCount) {
  for (const std::string type : kTypes) {
    std::vector<std::vector<char>> results[3];
    for (int threads : {1, 2, 3}) {
      set_threads(threads);
      TunedLayer layer(scheme_of(type), random_tensor(DType::kBF16, {300, 512}, 0.02f, 1), 2);
      const Tensor gradient = random_tensor(DType::kBF16, layer.weight.shape(), 1.0f, 3);
      auto& out = results[threads - 1];
      out.push_back(bytes_of(layer.forward(true, DType::kBF16)));
      TensorSet encoded = layer.encode(true), gradients = layer.backward(gradient);
      layer.sign_step(gradient, 0.01f, 0.005f);
      for (const TensorSet* set : {&encoded, &gradients, &layer.states, &layer.tunables})
        for (size_t i = 0; i < set->size(); ++i) out.push_back(bytes_of((*set)[i]));
    }
    set_threads(0);
    EXPECT_EQ(results[0], results[1]) << type;
    EXPECT_EQ(results[0], results[2]) << type;
  }
}

// Recorded by record_gguf.py from random blocks.
TEST(GgmlQuantizer, DecodesAsThePythonPackageDoes) {
  SafetensorsFolder recorded(std::string(TEST_DATA) + "/goldens/gguf_blocks.safetensors");
  for (const std::string type : kTypes) {
    const Tensor blocks = recorded.load(type + ".blocks"), weight = recorded.load(type + ".weight");
    TunedLayer layer(scheme_of(type), weight, 1);
    const rh_tensor view = blocks.view();
    const rh_tensor* tensors[] = {&view};
    const Tensor decoded = decode(layer, tensors);
    for (int64_t i = 0; i < weight.elements(); ++i)
      ASSERT_EQ(decoded.as<float>()[i], weight.as<float>()[i]) << type << " element " << i;
  }
}

// Bounds a few per cent above what a normal distribution gives; auto-round's own q4_1 has 0.111, its q5_1 0.054.
TEST(GgmlQuantizer, PlainRoundingIsAsGoodAsItsBits) {
  const std::pair<const char*, double> bounds[] = {{"q4_0", 0.092},  {"q4_1", 0.083}, {"q5_0", 0.046}, {"q5_1", 0.041},
                                                   {"q8_0", 0.0058}, {"q2_k", 0.34},  {"q3_k", 0.19},  {"q4_k", 0.085},
                                                   {"q5_k", 0.042},  {"q6_k", 0.0205}};
  for (const auto& [type, bound] : bounds) {
    const Tensor weight = random_tensor(DType::kF32, {32, 512}, 0.02f, 5);
    const double error = relative_error(TunedLayer(scheme_of(type), weight, 1).forward(false, DType::kF32), weight);
    EXPECT_LT(error, bound) << type;
    EXPECT_GT(error, bound * 0.8) << type << ": the bound is loose";
  }
}

// llama.cpp: d = amax / 127, positive.
TEST(GgmlQuantizer, ScalesOfQ8AreNotNegative) {
  TunedLayer layer(scheme_of("q8_0"), random_tensor(DType::kF32, {4, 512}, 0.02f, 1), 1);
  TensorSet blocks = layer.encode(false);
  for (int64_t i = 0; i < blocks[0].elements(); i += 34)
    EXPECT_LT(blocks[0].as<uint8_t>()[i + 1], 0x80) << "block " << i / 34;
}

void expect_refused(const TensorScheme& scheme, const std::string& reason, int64_t cols = 512,
                    int32_t target = RH_TARGET_WEIGHT, DType weight = DType::kBF16) {
  const std::string message = failure([&] {
    check_dtype(catalogue().dtype(scheme.dtype), scheme, {"layer.0", "", 8, cols, weight, target});
  });
  EXPECT_NE(message.find(reason), std::string::npos) << "\"" << message << "\" does not say \"" << reason << "\"";
}

TEST(GgmlQuantizer, RefusesWhatItCannotDo) {
  const TensorScheme good = scheme_of("q4_k");
  EXPECT_EQ(failure([&] {
              check_dtype(catalogue().dtype(good.dtype), good, {"layer.0", "", 8, 512, DType::kBF16});
            }),
            "");

  expect_refused(good, "layer.0: q4_k needs rows of a multiple of 256 columns, this has 128: use q5_0 or q4_0", 128);
  expect_refused(scheme_of("q6_k"), "use q8_0 or q5_1", 96);
  expect_refused(good, "leave this layer at 16 bits", 100);
  expect_refused(scheme_of("q8_0"), "a multiple of 32 columns, this has 100: leave this layer at 16 bits", 100);
  expect_refused(good, "weights only", 512, RH_TARGET_ACTIVATION);
  expect_refused(good, "float32, float16 or bfloat16", 512, RH_TARGET_WEIGHT, DType::kI8);
  TensorScheme scheme = good;
  scheme.group_cols = 128;
  expect_refused(scheme, "4 bits in groups of 32, asymmetric, not 4 bits in groups of 128, asymmetric");
  scheme = good;
  scheme.options = {{"super_bits", 4}};
  expect_refused(scheme, "option super_bits is 4; it may be 6");
  scheme = good;
  scheme.scale_dtype = DType::kF32;
  expect_refused(scheme, "scale_dtype");
  scheme = good;
  scheme.options = {{"arithmetic", "fast"}};
  expect_refused(scheme, "option arithmetic is fast; it may be block, reference");
  scheme = scheme_of("q8_0");
  scheme.options = {{"arithmetic", "reference"}};
  expect_refused(scheme, "has no option \"arithmetic\"");
  EXPECT_NE(failure([] {
              scheme_of("q5_k", Rounding::kTuned, {{"bits", 4}});
            }).find("bits 5, but bits 4"),
            std::string::npos);
}

TEST(GgmlQuantizer, NamesTheGroupWithANaN) {
  for (float bad : {std::nanf(""), HUGE_VALF}) {
    Tensor weight = random_tensor(DType::kF32, {4, 512}, 0.02f, 1);
    weight.as<float>()[2 * 512 + 300] = bad;
    const std::string message = failure([&] { TunedLayer(scheme_of("q2_k"), weight, 1); });
    EXPECT_NE(message.find("layer.0: the weight in row 2, columns 288 to 303, holds NaN or infinity"),
              std::string::npos)
        << message;
  }
}

TEST(GgmlQuantizer, RefusesARangeThatAScaleCannotHold) {
  Tensor weight = random_tensor(DType::kF32, {4, 512}, 0.02f, 1);
  weight.as<float>()[512 + 40] = 2e6f;
  const std::string message = failure([&] { TunedLayer(scheme_of("q4_0"), weight, 1); });
  EXPECT_NE(message.find("row 1, columns 32 to 63, ranges from"), std::string::npos) << message;
  EXPECT_NE(message.find("a scale beyond float16"), std::string::npos) << message;
  EXPECT_EQ(failure([&] { TunedLayer(scheme_of("q6_k"), weight, 1); }), "");
}

TEST(GgmlQuantizer, KnowsTheNamesOfAutoRound) {
  struct Name {
    const char *name, *id;
    int bits;
    bool symmetric;
    Rounding rounding, resolved;
    bool reference;
  };
  constexpr Rounding kTuned = Rounding::kTuned, kSearch = Rounding::kSearch;
  for (const Name& n : std::vector<Name>{{"int_asym_dq", "q2_k", 2, false, kTuned, kTuned, true},
                                         {"int_asym_dq", "q4_k", 4, false, kTuned, kTuned, true},
                                         {"int_asym_dq", "q5_k", 5, false, kSearch, kSearch, false},
                                         {"rtn_int_asym_dq", "q4_k", 4, false, kTuned, kSearch, false},
                                         {"int_sym_dq", "q3_k", 3, true, kTuned, kTuned, true},
                                         {"int_sym_dq", "q6_k", 6, true, kSearch, kSearch, false},
                                         {"int_asym_float_zp", "q4_1", 4, false, kTuned, kTuned, true},
                                         {"int_asym_float_zp", "q5_1", 5, false, kSearch, kSearch, false},
                                         {"opt_rtn_int_asym_float_zp", "q5_1", 5, false, kTuned, kSearch, false}}) {
    const TensorScheme scheme = scheme_of(n.name, n.rounding, {{"bits", n.bits}, {"sym", n.symmetric}});
    EXPECT_EQ(scheme.dtype, n.id) << n.name;
    EXPECT_EQ(scheme.rounding, n.resolved) << n.name;
    EXPECT_EQ(scheme.options.contains("arithmetic"), n.reference) << n.name;
  }
}

// Its scales are no block's, so it cannot be exported.
TEST(GgmlQuantizer, ReferenceArithmeticHasNoEncoding) {
  for (const char* name : {"int_asym_dq4", "int_sym_dq6", "int_asym_float_zp4"}) {
    TunedLayer layer(scheme_of(name), random_tensor(DType::kF32, {4, 512}, 0.02f, 1), 1);
    EXPECT_EQ(layer.quantizer.info().encoding, nullptr) << name;
  }
}

}  // namespace
}  // namespace roundhouse
