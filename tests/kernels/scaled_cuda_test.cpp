// SPDX-License-Identifier: Apache-2.0
// The CUDA kernels of scaled small floats against the scalar ones, bit for bit.
#include <gtest/gtest.h>

#include <limits>

#include "kernels/cuda/scaled.h"
#include "tests/kernels/on_device.h"
#include "tests/kernels/scaled_problem.h"

namespace roundhouse::kernels {
namespace {

Results run_scaled_cuda(const ScaledProblem& p) {
  const ScaledLayer& layer = p.layer;
  const ScaledCuda cuda{0, nullptr};
  const int64_t n = layer.rows * layer.cols, spans = scaled_spans(layer), groups = scaled_groups(layer);
  Results out;
  const OnDevice<uint8_t> in(p.input.bytes), grad(p.gradient.bytes);
  OnDevice<float> maximum(zeros(groups)), largest(zeros(1)), workspace(zeros(spans));
  check(cuda.maximum(layer, in.data(), maximum.data(), workspace.data()));
  check(cuda.largest(groups, maximum.data(), largest.data(), workspace.data()));
  out["maximum"] = maximum.host();
  out["largest"] = largest.host();
  OnDevice<float> v(p.v), max_scale(p.max_scale);
  const OnDevice<float> importance(p.importance);
  const ScaledInput input{in.data(), v.data(), max_scale.data(), maximum.data(), largest.data()};

  OnDevice<float> calibrated(zeros(1));
  check(cuda.calibrated(layer, input, calibrated.data()));
  out["calibrated"] = calibrated.host();

  OnDevice<uint8_t> qdq(zero_bytes(p.output, n)), scale(zero_bytes(layer.scale, groups));
  check(cuda.forward(layer, input, {qdq.data(), p.output, scale.data(), layer.scale}));
  out["qdq"] = elements(p.output, qdq);
  out["scale"] = elements(layer.scale, scale);

  OnDevice<uint8_t> codes{std::vector<uint8_t>(n)}, decoded(zero_bytes(p.output, n));
  OnDevice<float> code_scale(zeros(groups)), global(zeros(1));
  const ScaledCodes coded{codes.data(), code_scale.data(), layer.rule == ScaleRule::kNvfp4 ? global.data() : nullptr};
  check(cuda.encode(layer, input, coded));
  check(cuda.decode(layer, coded, decoded.data(), p.output));
  out["codes"] = codes.floats();
  out["code scale"] = code_scales(layer, code_scale.host());
  out["global scale"] = global.host();
  out["decoded"] = elements(p.output, decoded);

  OnDevice<ScaledSum> sums{std::vector<ScaledSum>(spans)};
  const OutputGradient gradient{grad.data(), p.gradient.type};
  OnDevice<float> grad_v(std::vector<float>(groups * layer.group_rows * layer.span_cols, -1.0f)),
      grad_max(zeros(groups));
  check(cuda.backward(layer, input, gradient, {grad_v.data(), nullptr, grad_max.data()}, sums.data()));
  OnDevice<uint8_t> grad_input(zero_bytes(p.output, n));
  check(cuda.input_gradient(layer, input, gradient, grad_input.data(), p.output));
  out["grad v"] = grad_v.host();
  out["grad max_scale"] = grad_max.host();
  out["grad input"] = elements(p.output, grad_input);

  if (layer.group_rows == 1 && layer.span_cols <= kMaxSearchSpan && layer.rule >= ScaleRule::kFloor) {
    OnDevice<float> found(out["maximum"]);
    check(cuda.search(layer, input, {importance.data(), found.data()}));
    out["searched"] = found.host();
  }
  if (p.v.empty()) return out;
  const OnDevice<float> rounding_rate(std::vector<float>{kRoundingRate}), range_rate(std::vector<float>{kRangeRate});
  check(cuda.sign_step(layer, input, gradient,
                       {v.data(), nullptr, max_scale.data(), rounding_rate.data(), range_rate.data()}, sums.data()));
  out["v"] = v.host();
  out["max_scale"] = max_scale.host();
  return out;
}

class ScaledCudaTest : public CudaTest {
 protected:
  void expect_scalar_results(const std::function<float(std::mt19937&, int64_t)>& fill) {
    int failures = 0;
    for_scaled_problems(fill, [&](const ScaledProblem& problem) {
      const std::string found =
          difference(run_scaled_cuda(problem), run_scaled_cpu(*scaled_cpu_targets().front(), problem));
      if (!found.empty() && ++failures <= kShownFailures) ADD_FAILURE() << problem.text() << ": " << found;
    });
    EXPECT_EQ(failures, 0) << "problems that differ";
  }
};

// In parts, and the parts' results once more; a NaN in any of them is the result's.
TEST_F(ScaledCudaTest, TheLargestOfManyIsExact) {
  const ScaledCuda cuda{0, nullptr};
  for (const int64_t n : {1, 15, 16, 31, 32, 33, 1000, 16 * 1024 - 1, 16 * 1024 * 3 + 5}) {
    std::vector<float> maxima(n, 0.5f);
    for (const int64_t at : {int64_t{0}, n / 2, n - 1}) {
      for (const float value : {2.0f, std::numeric_limits<float>::quiet_NaN()}) {
        maxima[at] = value;
        const OnDevice<float> given(maxima);
        OnDevice<float> largest(zeros(1)), workspace(zeros(n / kLanes));
        check(cuda.largest(n, given.data(), largest.data(), workspace.data()));
        EXPECT_EQ(difference({{"largest", largest.host()}}, {{"largest", {value}}}), "") << n << " " << at;
        maxima[at] = 0.5f;
      }
    }
  }
}

TEST_F(ScaledCudaTest, EqualsScalarOnRandomInput) { expect_scalar_results(gaussian); }

TEST_F(ScaledCudaTest, EqualsScalarOnHardInput) { expect_scalar_results(hard); }

TEST_F(ScaledCudaTest, TellsOfGroupsWithoutAScale) {
  ScaledLayer layer{};
  layer.rule = ScaleRule::kRatio;
  layer.element.max = 448;
  layer.scale = Element::kF16;
  layer.arithmetic = Element::kF32;
  layer.range_limit = 1;
  constexpr int64_t kGroups = 300;
  const auto told = [&](float of_a_group, float of_all) {
    std::vector<float> maxima(kGroups, 1.0f);
    maxima[299] = of_a_group;
    const OnDevice<float> maximum(maxima), largest(std::vector<float>{of_all});
    const OnDevice<uint32_t> status(std::vector<uint32_t>{0});
    check(ScaledCuda{0, nullptr}.check(layer, kGroups, maximum.data(), largest.data(), status.data()));
    return status.host()[0];
  };
  EXPECT_EQ(told(448, 448), 0u);
  EXPECT_EQ(told(1e8f, 1e8f), kScaleRange);
  EXPECT_EQ(told(std::numeric_limits<float>::infinity(), 1), kNotFinite);
  EXPECT_EQ(told(1, std::numeric_limits<float>::quiet_NaN()), kNotFinite);
}

}  // namespace
}  // namespace roundhouse::kernels
