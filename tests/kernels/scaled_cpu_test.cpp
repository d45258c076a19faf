// SPDX-License-Identifier: Apache-2.0
// Scaled small floats on the CPU: every element format exhaustively, and every instruction set against the scalar
// kernels, bit for bit.
#include <gtest/gtest.h>

#include <stdexcept>

#include "tests/kernels/scaled_problem.h"

namespace roundhouse::kernels {
namespace {

// A processor may have no vector target that this build knows.
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(ScaledVectorTarget);

std::vector<std::string> scaled_targets(bool vectors_only) {
  std::vector<std::string> names;
  for (const ScaledCpu* target : scaled_cpu_targets()) names.push_back(target->name);
  if (vectors_only) names.erase(names.begin());  // scalar
  return names;
}

class ScaledTarget : public testing::TestWithParam<std::string> {
 protected:
  const ScaledCpu& target() const {
    for (const ScaledCpu* target : scaled_cpu_targets())
      if (target->name == GetParam()) return *target;
    throw std::runtime_error("no target " + GetParam());
  }
};

class ScaledCpuTarget : public ScaledTarget {};

class ScaledVectorTarget : public ScaledTarget {
 protected:
  void expect_scalar_results(const std::function<float(std::mt19937&, int64_t)>& fill) {
    int failures = 0;
    for_scaled_problems(fill, [&](const ScaledProblem& problem) {
      if (failures == 5) return;
      const std::string found =
          difference(run_scaled_cpu(target(), problem), run_scaled_cpu(*scaled_cpu_targets().front(), problem));
      if (found.empty()) return;
      ADD_FAILURE() << problem.text() << ": " << found;
      ++failures;
    });
  }
};

TEST_P(ScaledVectorTarget, EqualsScalarOnRandomInput) { expect_scalar_results(gaussian); }

TEST_P(ScaledVectorTarget, EqualsScalarOnHardInput) { expect_scalar_results(hard); }

struct NamedFormat {
  const char* name;
  SmallFloat format;
  int exponent_bits, bias;  // no exponent: integers
};

const NamedFormat kFormats[] = {{"e4m3", e4m3(), 4, 7}, {"e5m2", e5m2(), 5, 15}, {"e2m3", e2m3(), 2, 1},
                                {"e3m2", e3m2(), 3, 3}, {"e2m1", e2m1(), 2, 1},  {"int8", int8(), 0, 0},
                                {"int4", int4(), 0, 0}, {"int2", int2(), 0, 0},  {"ue5m3", ue5m3(), 5, 15}};

// The positive numbers of a format by the definition of its fields, in the order of their codes.
std::vector<float> positive_values(const NamedFormat& f) {
  std::vector<float> values;
  const int mantissa = f.format.mantissa, fraction = 1 << mantissa;
  const int count = 1 << (f.format.bits - (f.format.is_unsigned ? 0 : 1));
  for (int code = 0; code < count; ++code) {
    const int exponent = code / fraction, m = code % fraction;
    float x;
    if (f.exponent_bits == 0)
      x = std::ldexp(static_cast<float>(code), -mantissa);
    else if (exponent == 0)
      x = std::ldexp(static_cast<float>(m), 1 - f.bias - mantissa);
    else
      x = std::ldexp(static_cast<float>(fraction + m), exponent - f.bias - mantissa);
    if (x <= f.format.max) values.push_back(x);
  }
  return values;
}

TEST(SmallFloat, CodesAndValuesAreThoseOfTheFormat) {
  EXPECT_EQ(positive_values(kFormats[4]), (std::vector<float>{0, 0.5f, 1, 1.5f, 2, 3, 4, 6}));
  EXPECT_EQ(positive_values(kFormats[0]).size(), 127u);
  EXPECT_EQ(positive_values(kFormats[1]).size(), 124u);
  for (const NamedFormat& f : kFormats) {
    const std::vector<float> values = positive_values(f);
    EXPECT_EQ(values.back(), f.format.max) << f.name;
    for (size_t code = 0; code < values.size(); ++code) {
      ASSERT_EQ(small_code(f.format, values[code]), code) << f.name << " " << values[code];
      ASSERT_EQ(small_value(f.format, static_cast<uint8_t>(code)), values[code]) << f.name << " code " << code;
      if (f.format.is_unsigned || code == 0) continue;
      const int top = 1 << (f.format.bits - 1);
      const int negative = f.format.integer ? 2 * top - static_cast<int>(code) : top + static_cast<int>(code);
      ASSERT_EQ(small_code(f.format, -values[code]), negative) << f.name << " " << -values[code];
      ASSERT_EQ(small_value(f.format, static_cast<uint8_t>(negative)), -values[code]) << f.name << " " << negative;
    }
  }
  for (uint8_t nan : {0x7f, 0xff}) EXPECT_TRUE(std::isnan(small_value(e4m3(), nan)));
  for (uint8_t nan : {0x7d, 0x7e, 0x7f, 0xfd}) EXPECT_TRUE(std::isnan(small_value(e5m2(), nan)));
  EXPECT_EQ(small_value(e5m2(), 0x7c), HUGE_VALF);
  EXPECT_EQ(small_value(e5m2(), 0xfc), -HUGE_VALF);
  EXPECT_TRUE(std::isnan(small_value(ue5m3(), 0xff)));
}

// Every number, every middle between two, the floats beside a middle, and beyond the largest.
TEST_P(ScaledCpuTarget, RoundsEveryElementToTheNearestEven) {
  for (const NamedFormat& f : kFormats) {
    if (f.format.is_unsigned) continue;
    const std::vector<float> values = positive_values(f);
    std::vector<float> input, expected;
    const auto add = [&](float x, float e) {
      input.insert(input.end(), {x, -x});
      expected.insert(expected.end(), {e, -e});
    };
    for (size_t i = 0; i < values.size(); ++i) {
      add(values[i], values[i]);
      if (i == 0) continue;
      const float middle = (values[i - 1] + values[i]) / 2;
      add(middle, values[i % 2 == 0 ? i : i - 1]);
      add(std::nextafter(middle, 0.0f), values[i - 1]);
      add(std::nextafter(middle, HUGE_VALF), values[i]);
    }
    for (float x : {1.01f * f.format.max, 1e30f}) add(x, f.format.max);
    add(1e-40f, 0.0f);
    const auto n = static_cast<int64_t>(input.size());
    ScaledLayer layer{};
    layer.rows = layer.group_rows = 1;
    layer.cols = layer.span_cols = n;
    layer.element = f.format;
    layer.signed_zero = true;
    std::vector<float> actual(n);
    target().forward(layer, {input.data(), nullptr, nullptr, nullptr, nullptr},
                     {actual.data(), Element::kF32, nullptr, Element::kF32}, 0, 1);
    for (int64_t i = 2; i < n; ++i)  // a zero itself becomes positive
      ASSERT_EQ(std::memcmp(&actual[i], &expected[i], 4), 0)
          << f.name << ", position " << i << ", input " << input[i] << ": expected " << expected[i] << ", actual "
          << actual[i];
  }
}

TEST_P(ScaledCpuTarget, MaximumOfNaNAndInfinityIsNaN) {
  for (float bad : {std::nanf(""), -HUGE_VALF, HUGE_VALF}) {
    for (int64_t at : {0, 17, 32}) {
      const ScaledProblem p = make_scaled_problem(kScaledKinds[0], {1, 33, 1, 33}, false, Element::kBF16, 0,
                                                  [&](std::mt19937&, int64_t i) { return i == at ? bad : 1.0f; });
      float maximum = 0;
      target().maximum(p.layer, p.input.bytes.data(), &maximum, 0, 1);
      EXPECT_TRUE(std::isnan(maximum)) << bad << " at " << at;
    }
  }
}

// Nothing that is finite becomes NaN, and codes stand for what forward gives.
TEST_P(ScaledCpuTarget, DecodesWhatForwardGives) {
  for (const auto& fill : {gaussian, hard}) {
    for_scaled_problems(fill, [&](const ScaledProblem& problem) {
      if (HasFailure()) return;
      ScaledProblem own = problem;
      own.output = problem.layer.input;
      Results r = run_scaled_cpu(target(), own);
      for (const char* name : {"scale", "maximum"})
        for (float x : r[name])
          if (!std::isfinite(x)) return;  // refused before any rounding
      for (size_t i = 0; i < r["qdq"].size(); ++i) {
        const float e = r["qdq"][i], a = r["decoded"][i];
        ASSERT_EQ(e, a) << own.text() << ": qdq[" << i << "] is " << e << ", decoded " << a;
      }
      for (const char* name : {"grad v", "grad max_scale", "grad input"})
        for (float x : r[name]) ASSERT_FALSE(std::isnan(x)) << own.text() << ": " << name;
    });
  }
}

// The error of the searched scale is never above that of the plain one.
TEST_P(ScaledCpuTarget, SearchNeverLoses) {
  int better = 0;
  for (const ScaledKind& kind : kScaledKinds) {
    if (kind.rule < ScaleRule::kFloor) continue;
    const ScaledProblem p = make_scaled_problem(kind, {8, 128, 1, 16}, false, Element::kF32, 5, gaussian);
    const std::vector<float> w = p.input.values();
    std::vector<float> maximum(64), searched, qdq(w.size());
    target().maximum(p.layer, w.data(), maximum.data(), 0, 64);
    const float largest = largest_of(64, maximum.data());
    searched = maximum;
    target().search(p.layer, {w.data(), nullptr, nullptr, nullptr, &largest}, {nullptr, searched.data()}, 0, 64);
    const auto errors = [&](const std::vector<float>& m) {
      target().forward(p.layer, {w.data(), nullptr, nullptr, m.data(), &largest},
                       {qdq.data(), Element::kF32, nullptr, Element::kF32}, 0, 64);
      std::vector<double> sums(64);
      for (size_t i = 0; i < w.size(); ++i) sums[i / 16] += std::pow(double{qdq[i]} - w[i], 2);
      return sums;
    };
    const std::vector<double> plain = errors(maximum), best = errors(searched);
    for (int i = 0; i < 64; ++i) {
      ASSERT_LE(best[i], plain[i] * (1 + 1e-6)) << kind.name << " group " << i;
      better += best[i] < plain[i];
    }
  }
  EXPECT_GT(better, 64);
}

const auto kName = [](const testing::TestParamInfo<std::string>& info) { return info.param; };
INSTANTIATE_TEST_SUITE_P(Compiled, ScaledCpuTarget, testing::ValuesIn(scaled_targets(false)), kName);
INSTANTIATE_TEST_SUITE_P(Compiled, ScaledVectorTarget, testing::ValuesIn(scaled_targets(true)), kName);

}  // namespace
}  // namespace roundhouse::kernels
