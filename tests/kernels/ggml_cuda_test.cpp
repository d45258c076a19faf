// SPDX-License-Identifier: Apache-2.0
// The CUDA kernels of ggml's blocks against the scalar ones, bit for bit.
#include <gtest/gtest.h>

#include <limits>

#include "kernels/cuda/ggml.h"
#include "plugins/dtypes/ggml/encode_cuda.h"
#include "tests/kernels/ggml_problem.h"
#include "tests/kernels/on_device.h"

namespace roundhouse::kernels {
namespace {

Results run_ggml_cuda(const GgmlProblem& p) {
  const GgmlLayer& layer = p.layer;
  const GgmlCuda cuda{0, nullptr};
  const int64_t n = layer.rows * layer.cols, groups = ggml_groups(layer), blocks = ggml_blocks(layer);
  const Element scale_type = layer.super_bits == 0 ? layer.scale : Element::kF32;
  Results out;
  const OnDevice<uint8_t> weight(p.weight.bytes), grad(p.gradient.bytes);
  OnDevice<float> low(zeros(groups)), high(zeros(groups));
  check(cuda.range(layer, weight.data(), low.data(), high.data()));
  out["low"] = low.host();
  out["high"] = high.host();
  OnDevice<float> v(p.v), min_scale(p.min_scale), max_scale(p.max_scale);
  GgmlInput input{};
  input.weight = weight.data();
  input.v = v.data();
  input.min_scale = min_scale.data();
  input.max_scale = max_scale.data();
  input.low = low.data();
  input.high = high.data();
  OnDevice<float> searched_d(p.d), searched_dmin(p.dmin), scale_code(p.scale_code), minimum_code(p.minimum_code);
  input.d = searched_d.data();
  input.dmin = searched_dmin.data();
  input.scale_code = scale_code.data();
  input.minimum_code = minimum_code.data();

  OnDevice<uint8_t> qdq(zero_bytes(p.output, n)), scale(zero_bytes(scale_type, groups));
  OnDevice<float> minimum(zeros(groups)), d(zeros(blocks)), dmin(zeros(blocks)), zero(zeros(groups));
  check(cuda.forward(layer, input,
                     {qdq.data(), p.output, scale.data(), minimum.data(), d.data(), dmin.data(), zero.data()}));
  out["qdq"] = elements(p.output, qdq);
  out["scale"] = elements(scale_type, scale);
  out["minimum"] = minimum.host();
  out["d"] = d.host();
  out["dmin"] = dmin.host();
  out["zero point"] = zero.host();

  if (!layer.reference) {
    OnDevice<uint8_t> packed{std::vector<uint8_t>(blocks * ggml::facts(p.type).block_bytes)};
    check(ggml::encode_cuda(cuda, p.type, layer, input, packed.data()));
    out["bytes of blocks"] = packed.floats();
  }

  const OutputGradient gradient{grad.data(), p.gradient.type};
  OnDevice<float> grad_v(zeros(n)), grad_min(zeros(groups)), grad_max(zeros(groups));
  check(cuda.backward(layer, input, gradient, gradients_of(p, grad_v.data(), grad_min.data(), grad_max.data())));
  out["grad v"] = grad_v.host();
  out["grad min_scale"] = grad_min.host();
  out["grad max_scale"] = grad_max.host();

  if (p.v.empty()) return out;
  const OnDevice<float> rounding_rate(std::vector<float>{kRoundingRate}), range_rate(std::vector<float>{kRangeRate});
  check(cuda.sign_step(
      layer, input, gradient,
      step_of(p, v.data(), min_scale.data(), max_scale.data(), rounding_rate.data(), range_rate.data())));
  out["v"] = v.host();
  out["min_scale"] = min_scale.host();
  out["max_scale"] = max_scale.host();
  return out;
}

class GgmlCudaTest : public CudaTest {
 protected:
  void expect_scalar_results(const std::function<float(std::mt19937&, int64_t)>& fill) {
    int failures = 0;
    for_ggml_problems(fill, [&](const GgmlProblem& problem) {
      const std::string found = difference(run_ggml_cuda(problem), run_ggml_cpu(*ggml_cpu_targets().front(), problem));
      if (!found.empty() && ++failures <= kShownFailures) ADD_FAILURE() << problem.text() << ": " << found;
    });
    EXPECT_EQ(failures, 0) << "problems that differ";
  }
};

TEST_F(GgmlCudaTest, EqualsScalarOnRandomInput) { expect_scalar_results(gaussian); }

TEST_F(GgmlCudaTest, EqualsScalarOnHardInput) { expect_scalar_results(hard); }

TEST_F(GgmlCudaTest, TellsOfBlocksWithoutAScale) {
  int problems = 0;
  for_ggml_problems(gaussian, [&](const GgmlProblem& p) {
    if (p.layer.reference || p.layer.searched || !p.v.empty()) return;
    const auto told = [&](float largest) {
      std::vector<float> lows(ggml_groups(p.layer), -1.0f), highs(ggml_groups(p.layer), 1.0f);
      lows.back() = -largest;
      highs.back() = largest;
      const OnDevice<float> low(lows), high(highs);
      const OnDevice<uint32_t> status(std::vector<uint32_t>{0});
      GgmlInput input{};
      input.low = low.data();
      input.high = high.data();
      check(GgmlCuda{0, nullptr}.check(p.layer, input, status.data()));
      return status.host()[0];
    };
    EXPECT_EQ(told(100), 0u) << p.text();
    EXPECT_EQ(told(1e9f), kScaleRange) << p.text();
    EXPECT_EQ(told(std::numeric_limits<float>::infinity()), kNotFinite) << p.text();
    ++problems;
  });
  EXPECT_GT(problems, 0);
}

}  // namespace
}  // namespace roundhouse::kernels
