// SPDX-License-Identifier: Apache-2.0
// The CUDA kernels against the scalar ones, bit for bit.
#include <gtest/gtest.h>

#include <limits>

#include "kernels/cuda/affine.h"
#include "tests/kernels/on_device.h"

namespace roundhouse::kernels {
namespace {

Results run_cuda(const Problem& p) {
  const AffineLayer& layer = p.layer;
  const AffineCuda cuda{0, nullptr};
  const int64_t n = layer.rows * layer.cols, spans = affine_spans(layer), groups = affine_groups(layer);
  Results out;
  const OnDevice<uint8_t> weight(p.weight.bytes), grad(p.gradient.bytes);
  OnDevice<float> low(zeros(groups)), high(zeros(groups)), workspace(zeros(2 * spans));
  check(cuda.range(layer, weight.data(), low.data(), high.data(), workspace.data()));
  out["low"] = low.host();
  out["high"] = high.host();
  OnDevice<float> v(p.v), min_scale(p.min_scale), max_scale(p.max_scale);
  const OnDevice<float> outer_scale(p.outer_scale), importance(p.importance);
  const AffineInput input{weight.data(), v.data(),    min_scale.data(),  max_scale.data(),
                          low.data(),    high.data(), outer_scale.data()};

  OnDevice<uint8_t> qdq(zero_bytes(p.output, n)), scale(zero_bytes(layer.scale, groups));
  OnDevice<float> zero(zeros(groups)), outer(zeros(1));
  float* const outer_out = p.outer_scale.empty() ? nullptr : outer.data();
  check(cuda.forward(layer, input,
                     {qdq.data(), p.output, scale.data(), layer.symmetric ? nullptr : zero.data(), outer_out}));
  out["qdq"] = elements(p.output, qdq);
  out["scale"] = elements(layer.scale, scale);
  out["zero point"] = zero.host();
  out["outer scale"] = outer.host();

  OnDevice<uint8_t> codes{std::vector<uint8_t>(n)}, zero_codes{std::vector<uint8_t>(groups)};
  OnDevice<uint8_t> code_scale(zero_bytes(layer.scale, groups)), decoded(zero_bytes(p.output, n));
  const AffineCodes coded{codes.data(), code_scale.data(), layer.symmetric ? nullptr : zero_codes.data(), outer_out};
  check(cuda.encode(layer, input, coded));
  check(cuda.decode(layer, coded, decoded.data(), p.output));
  out["codes"] = codes.floats();
  out["zero codes"] = zero_codes.floats();
  out["code scale"] = elements(layer.scale, code_scale);
  out["decoded"] = elements(p.output, decoded);

  OnDevice<AffineSums> sums{std::vector<AffineSums>(spans)};
  const AffineGradient gradient{grad.data(), p.gradient.type};
  OnDevice<float> grad_v(std::vector<float>(spans * layer.span_cols, -1.0f)), grad_min(zeros(groups)),
      grad_max(zeros(groups));
  check(cuda.backward(layer, input, gradient, {grad_v.data(), grad_min.data(), grad_max.data()}, sums.data()));
  out["grad v"] = grad_v.host();
  out["grad min_scale"] = grad_min.host();
  out["grad max_scale"] = grad_max.host();

  if (may_search(layer)) {
    OnDevice<float> best_low(out["low"]), best_high(out["high"]);
    check(cuda.search(layer, {weight.data(), importance.data()}, best_low.data(), best_high.data()));
    out["searched low"] = best_low.host();
    out["searched high"] = best_high.host();
  }
  if (has_input_gradient(p)) {
    OnDevice<uint8_t> grad_input(zero_bytes(layer.weight, n));
    check(cuda.input_gradient(layer, input, gradient, grad_input.data()));
    out["grad input"] = elements(layer.weight, grad_input);
  }

  if (layer.whole_tensor) {
    OnDevice<uint8_t> progressed(zero_bytes(layer.weight, n));
    OnDevice<float> progressive(zeros(1));
    check(cuda.progressive(
        layer, {weight.data(), low.data(), high.data(), kProgressiveScale, progressed.data(), progressive.data()}));
    out["progressive"] = elements(layer.weight, progressed);
    out["progressive scale"] = progressive.host();
  }

  if (!layer.tuned) return out;
  const OnDevice<float> rounding_rate(std::vector<float>{kRoundingRate}), range_rate(std::vector<float>{kRangeRate});
  check(cuda.sign_step(layer, input, gradient,
                       {v.data(), min_scale.data(), max_scale.data(), rounding_rate.data(), range_rate.data()},
                       sums.data()));
  out["v"] = v.host();
  out["min_scale"] = min_scale.host();
  out["max_scale"] = max_scale.host();
  return out;
}

class AffineCudaTest : public CudaTest {
 protected:
  void expect_scalar_results(const std::function<float(std::mt19937&, int64_t)>& fill) {
    int failures = 0;
    for_problems(fill, [&](const Problem& problem) {
      const std::string found = difference(run_cuda(problem), run_cpu(*affine_cpu_targets().front(), problem));
      if (!found.empty() && ++failures <= kShownFailures) ADD_FAILURE() << problem.text() << ": " << found;
    });
    EXPECT_EQ(failures, 0) << "problems that differ";
  }
};

TEST_F(AffineCudaTest, EqualsScalarOnRandomWeights) { expect_scalar_results(gaussian); }

TEST_F(AffineCudaTest, EqualsScalarOnHardWeights) { expect_scalar_results(hard); }

TEST_F(AffineCudaTest, TellsOfGroupsWithoutAScale) {
  AffineLayer layer{};
  layer.rows = 30;
  layer.cols = 40;
  layer.span_cols = 32;
  layer.symmetric = true;
  layer.bits = 4;
  layer.weight = Element::kF32;
  layer.scale = Element::kF16;
  layer.scale_threshold = 1e-5f;
  const auto told = [&](float of_a_group) {
    std::vector<float> ranges(affine_groups(layer), 1.0f);
    ranges[37] = of_a_group;
    const OnDevice<float> low(std::vector<float>(ranges.size(), of_a_group != of_a_group ? of_a_group : -1.0f)),
        high(ranges);
    const OnDevice<uint32_t> status(std::vector<uint32_t>{0});
    check(AffineCuda{0, nullptr}.check(layer, low.data(), high.data(), status.data()));
    return status.host()[0];
  };
  EXPECT_EQ(told(1000), 0u);
  EXPECT_EQ(told(1e7f), kScaleRange);
  EXPECT_EQ(told(std::numeric_limits<float>::quiet_NaN()), kNotFinite);
}

}  // namespace
}  // namespace roundhouse::kernels
