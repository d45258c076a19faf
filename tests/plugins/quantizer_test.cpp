// SPDX-License-Identifier: Apache-2.0
// Calling a data type plugin.
#include "host/abi/quantizer.h"

#include <cmath>

#include "host/abi/views.h"
#include "tests/plugins/sandbox.h"

namespace roundhouse {
namespace {

class QuantizerTest : public Sandbox {
 protected:
  QuantizerTest() : catalogue_(discover_in(install("a", {"good"}))) {
    scheme_.dtype = "fixture";
    scheme_.bits = 8;
    scheme_.rounding = Rounding::kTuned;
    for (int i = 0; i < 4; ++i) weight_.as<float>()[i] = 1.4f * static_cast<float>(i - 1);  // -1.4 0 1.4 2.8
  }

  Catalogue catalogue_;
  TensorScheme scheme_;
  QuantizerTarget target_{"layers.0.down", "down", 2, 2, DType::kF32};
  Tensor weight_{DType::kF32, {2, 2}};
};

TEST_F(QuantizerTest, RunsTheWholeOrderOfCalls) {
  Quantizer quantizer(catalogue_.dtype(scheme_.dtype), scheme_, target_);
  EXPECT_TRUE(quantizer.can_tune());
  EXPECT_FALSE(quantizer.has_sign_step());
  const rh_tensor weight = weight_.view();

  TensorSet statistic = quantizer.statistic(), states = quantizer.states(), tunables = quantizer.tunables();
  quantizer.measure({}, weight, statistic.data()[0]);
  EXPECT_FLOAT_EQ(statistic[0].as<float>()[0], -1.4f);
  quantizer.prepare({}, &weight, nullptr, statistic.data()[0], states.data());

  ASSERT_EQ(tunables.size(), 1u);
  EXPECT_EQ(tunables.name(0), "v");
  tunables[0].as<float>()[3] = -0.5f;
  const Tensor qdq(DType::kF32, {2, 2});
  rh_tensor output = qdq.view();
  TensorSet results = quantizer.results();
  quantizer.forward({}, weight, tunables.data(), states.data(), output, results.data());
  for (int i = 0; i < 4; ++i) EXPECT_EQ(qdq.as<float>()[i], static_cast<float>(i - 1));  // -1 0 1 2, not 3
  EXPECT_FLOAT_EQ(results[0].as<float>()[0], -1.4f);

  TensorSet grads = quantizer.tunables();
  quantizer.backward({}, weight, tunables.data(), states.data(), weight, grads.data());
  EXPECT_EQ(grads[0].as<float>()[2], weight_.as<float>()[2]);

  TensorSet encoded = quantizer.encoded();
  quantizer.encode({}, weight, tunables.data(), states.data(), encoded.data());
  const Tensor decoded(DType::kF32, {2, 2});
  rh_tensor decoded_view = decoded.view();
  quantizer.decode({}, encoded.data(), decoded_view);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(decoded.as<float>()[i], qdq.as<float>()[i]);
}

TEST_F(QuantizerTest, IsMadeFromAnEncoding) {
  Quantizer first(catalogue_.dtype(scheme_.dtype), scheme_, target_);
  TensorSet states = first.states(), encoded = first.encoded();
  first.encode({}, weight_.view(), nullptr, states.data(), encoded.data());

  const EncodingCopy made(*first.info().encoding);
  Quantizer second(catalogue_.dtype(scheme_.dtype), made.get(), target_);
  EXPECT_EQ(second.info().tunable_count, 0u);
  EXPECT_STREQ(second.info().encoding->id, "example.com/rounded/1");
  second.prepare({}, nullptr, nullptr, nullptr, nullptr, encoded.data());
  const Tensor decoded(DType::kF32, {2, 2});
  rh_tensor view = decoded.view();
  second.decode({}, encoded.data(), view);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(decoded.as<float>()[i], std::round(weight_.as<float>()[i]));

  rh_encoding other = made.get();
  other.id = "example.com/other/1";
  EXPECT_CONTAINS(error_of([&] { Quantizer(catalogue_.dtype(scheme_.dtype), other, target_); }),
                  "create of layers.0.down: only example.com/rounded/1");
}

TEST_F(QuantizerTest, WorkspaceMayComeFromTheCaller) {
  Quantizer quantizer(catalogue_.dtype(scheme_.dtype), scheme_, target_);
  TensorSet states = quantizer.states();
  rh_tensor weight = weight_.view();
  alignas(256) static char memory[1000];
  uint64_t asked = 0;
  Exec exec;
  exec.workspace = [&](uint64_t bytes) {
    asked = bytes;
    return memory;
  };
  quantizer.forward(exec, weight, nullptr, states.data(), weight);
  EXPECT_EQ(asked, 1000u);
  EXPECT_EQ(memory[999], 1);  // the fixture fills it

  exec.workspace = nullptr;
  exec.device = {RH_DEVICE_CUDA, 0};
  EXPECT_CONTAINS(error_of([&] { quantizer.forward(exec, weight, nullptr, states.data(), weight); }),
                  "no workspace of 1000 bytes");
}

TEST_F(QuantizerTest, FailuresNamePluginCallAndLayer) {
  const std::string plugin = "plugin fixture (" + (root_ / "a/librh_fixture_good.so").string() + ")";
  Quantizer quantizer(catalogue_.dtype(scheme_.dtype), scheme_, target_);
  TensorSet states = quantizer.states();
  states[0].as<float>()[0] = NAN;
  rh_tensor weight = weight_.view();
  EXPECT_EQ(error_of([&] { quantizer.forward({}, weight, nullptr, states.data(), weight); }),
            plugin + ", forward of layers.0.down: the weight has a NaN");
  EXPECT_EQ(error_of([&] { quantizer.sign_step({}, weight, nullptr, nullptr, weight, nullptr); }),
            plugin + " has no sign_step, which layers.0.down needs");
  scheme_.bits = 4;
  EXPECT_EQ(error_of([&] { check_dtype(catalogue_.dtype(scheme_.dtype), scheme_, target_); }),
            plugin + ", check of layers.0.down: bits must be 8");
  EXPECT_EQ(error_of([&] { Quantizer(catalogue_.dtype(scheme_.dtype), scheme_, target_); }),
            plugin + ", create of layers.0.down: bits must be 8");
}

}  // namespace
}  // namespace roundhouse
