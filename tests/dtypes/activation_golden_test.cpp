// SPDX-License-Identifier: Apache-2.0
// Activations against the reference's recorded results, which tests/data/goldens/activation/int.json lists.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "host/abi/quantizer.h"
#include "host/base/error.h"
#include "host/checkpoint/safetensors.h"
#include "host/plan/scheme_resolver.h"
#include "tests/dtypes/built_plugins.h"

namespace roundhouse {
namespace {

using nlohmann::json;

const std::string kFolder = TEST_DATA "/goldens/activation/";

// Relative to the largest: the reference rounds each of the sums that a gradient of the range is made of to the scale's
// element type (float16), and the gradient to the activation's.
double gradient_tolerance(DType activation) { return activation == DType::kF32 ? 2e-3 : 8e-3; }

void expect_near(const Tensor& actual, const Tensor& expected, double tolerance) {
  const Tensor a = actual.to(DType::kF32), e = expected.to(DType::kF32);
  double largest = 0;
  for (int64_t i = 0; i < e.elements(); ++i) largest = std::max<double>(largest, std::fabs(e.as<float>()[i]));
  for (int64_t i = 0; i < a.elements(); ++i)
    ASSERT_NEAR(a.as<float>()[i], e.as<float>()[i], tolerance * largest) << "element " << i;
}

TEST(ActivationGolden, ForwardAndInputGradientFollowTheReference) {
  Catalogue catalogue = discover_built_plugins();
  std::ifstream file(kFolder + "int.json");
  const json list = json::parse(file);
  ASSERT_FALSE(list.at("cases").empty());
  for (const json& golden : list.at("cases")) {
    const std::string name = golden.at("file");
    SCOPED_TRACE(name);
    SafetensorsFolder folder(kFolder + name);
    const Tensor input = folder.load("input"), expected = folder.load("qdq"), grad = folder.load("grad_qdq");
    const TensorScheme scheme =
        resolve_dtype(catalogue, {golden.at("dtype"), golden.at("options"), {}, Rounding::kPlain});
    Quantizer quantizer(catalogue.dtype(scheme.dtype), scheme,
                        {"layer.0", "", -1, input.dim(1), input.dtype(), RH_TARGET_ACTIVATION});
    const Tensor qdq(input.dtype(), input.shape()), grad_input(input.dtype(), input.shape());
    const rh_tensor in = input.view(), at_output = grad.view();
    rh_tensor out = qdq.view(), at_input = grad_input.view();
    quantizer.forward({}, in, nullptr, nullptr, out);
    quantizer.backward({}, in, nullptr, nullptr, at_output, nullptr, &at_input);
    ASSERT_EQ(std::string(qdq.as<char>(), qdq.bytes()), std::string(expected.as<char>(), expected.bytes()));
    expect_near(grad_input, folder.load("grad_input"), gradient_tolerance(input.dtype()));
  }
}

}  // namespace
}  // namespace roundhouse
