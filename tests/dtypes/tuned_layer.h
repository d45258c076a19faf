// SPDX-License-Identifier: Apache-2.0
// A quantizer of the built plugins through the C ABI, and what must hold for each.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "host/abi/quantizer.h"
#include "host/base/error.h"
#include "host/base/parallel.h"
#include "host/base/scheme.h"
#include "tests/dtypes/built_plugins.h"

namespace roundhouse {

inline Catalogue& catalogue() {
  static Catalogue built = discover_built_plugins();
  return built;
}

inline TensorScheme int_scheme(int bits, bool symmetric, int64_t group_cols) {
  TensorScheme scheme;
  scheme.dtype = "int";
  scheme.bits = bits;
  scheme.symmetric = symmetric;
  scheme.group_cols = group_cols;
  scheme.rounding = Rounding::kTuned;
  return scheme;
}

inline QuantizerTarget target_of(const Tensor& weight) {
  return {"layer.0", "", weight.dim(0), weight.dim(1), weight.dtype(), RH_TARGET_WEIGHT};
}

inline Tensor random_tensor(DType dtype, std::vector<int64_t> shape, float spread, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, spread);
  Tensor out(DType::kF32, std::move(shape));
  for (int64_t i = 0; i < out.elements(); ++i) out.as<float>()[i] = normal(random);
  return out.to(dtype);
}

inline std::vector<char> bytes_of(const Tensor& t) { return {t.as<char>(), t.as<char>() + t.bytes()}; }

// A quantizer with its weight, tunables away from their initial values, and states.
struct TunedLayer {
  TunedLayer(const TensorScheme& scheme, Tensor weight, uint32_t seed, const Tensor* importance = nullptr)
      : weight(std::move(weight)),
        quantizer(catalogue().dtype(scheme.dtype), scheme, target_of(this->weight)),
        tunables(quantizer.tunables()),
        states(quantizer.states()) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<float> unit(0.0f, 1.0f);
    for (size_t i = 0; i < tunables.size(); ++i)
      for (int64_t j = 0; j < tunables[i].elements(); ++j)
        tunables[i].as<float>()[j] = i == 0 ? unit(random) - 0.5f : 1.0f - 0.01f * (random() % 30);
    const rh_tensor view = this->weight.view();
    const rh_tensor importance_view = importance ? importance->view() : rh_tensor{};
    TensorSet statistic = quantizer.statistic();
    rh_tensor* measured = statistic.size() ? statistic.data()[0] : nullptr;
    quantizer.measure({}, view, measured);
    quantizer.prepare({}, &view, importance ? &importance_view : nullptr, measured, states.data());
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

inline void expect_decode_of_encode_is_forward(TunedLayer& layer, bool tuned) {
  const Tensor forward = layer.forward(tuned, layer.weight.dtype());
  TensorSet encoded = layer.encode(tuned);
  const Tensor decoded(layer.weight.dtype(), layer.weight.shape());
  rh_tensor output = decoded.view();
  layer.quantizer.decode({}, encoded.data(), output);
  const Tensor a = decoded.to(DType::kF32), e = forward.to(DType::kF32);
  for (int64_t i = 0; i < a.elements(); ++i) {
    const float actual = a.as<float>()[i], expected = e.as<float>()[i];
    // Codes of integers have one zero, whose sign forward may keep.
    ASSERT_EQ(actual, expected) << (tuned ? "tuned" : "plain") << " element " << i << ": forward " << expected
                                << ", decoded " << actual;
  }
}

inline void expect_sign_step_is_backward_and_sign(TunedLayer& layer) {
  constexpr float kRoundingRate = 0.01f, kRangeRate = 0.005f;
  const Tensor gradient = random_tensor(layer.weight.dtype(), layer.weight.shape(), 1.0f, 7);
  TensorSet expected = layer.backward(gradient);  // the gradients, then the stepped tunables
  for (size_t i = 0; i < expected.size(); ++i) {
    const rh_tensor_spec& spec = *layer.quantizer.info().tunables[i];
    const float rate = spec.lr_group == RH_LR_ROUNDING ? kRoundingRate : kRangeRate;
    for (int64_t j = 0; j < expected[i].elements(); ++j) {
      float& x = expected[i].as<float>()[j];
      const float stepped = layer.tunables[i].as<float>()[j] - rate * static_cast<float>((x > 0) - (x < 0));
      x = std::fmin(std::fmax(stepped, static_cast<float>(spec.clamp_min)), static_cast<float>(spec.clamp_max));
    }
  }
  layer.sign_step(gradient, kRoundingRate, kRangeRate);
  for (size_t i = 0; i < expected.size(); ++i)
    ASSERT_EQ(bytes_of(layer.tunables[i]), bytes_of(expected[i])) << expected.name(i);
}

inline void expect_same_for_any_thread_count(const TensorScheme& scheme,
                                             const Tensor& weight = random_tensor(DType::kBF16, {700, 512}, 0.02f, 1)) {
  std::vector<std::vector<char>> results[3];
  for (int threads : {1, 2, 3}) {
    set_threads(threads);
    TunedLayer layer(scheme, weight, 2);
    const Tensor gradient = random_tensor(DType::kBF16, layer.weight.shape(), 1.0f, 3);
    auto& out = results[threads - 1];
    out.push_back(bytes_of(layer.forward(true, DType::kBF16)));
    TensorSet encoded = layer.encode(true), gradients = layer.backward(gradient);
    layer.sign_step(gradient, 0.01f, 0.005f);
    for (const TensorSet* set : {&encoded, &gradients, &layer.states, &layer.tunables})
      for (size_t i = 0; i < set->size(); ++i) out.push_back(bytes_of((*set)[i]));
  }
  set_threads(0);
  EXPECT_EQ(results[0], results[1]) << "group " << scheme.group_cols;
  EXPECT_EQ(results[0], results[2]) << "group " << scheme.group_cols;
}

}  // namespace roundhouse
