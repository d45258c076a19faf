// SPDX-License-Identifier: Apache-2.0
// Every instruction set against the scalar kernels, bit for bit.
#include <gtest/gtest.h>

#include <bit>
#include <stdexcept>

#include "tests/kernels/affine_problem.h"

namespace roundhouse::kernels {
namespace {

// A processor may have no vector target that this build knows.
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(AffineVectorTarget);

std::vector<std::string> target_names() {
  std::vector<std::string> names;
  for (const AffineCpu* target : affine_cpu_targets()) names.push_back(target->name);
  return names;
}

std::vector<std::string> vector_target_names() {
  std::vector<std::string> names = target_names();
  names.erase(names.begin());  // scalar
  return names;
}

class AffineTarget : public testing::TestWithParam<std::string> {
 protected:
  const AffineCpu& target() const {
    for (const AffineCpu* target : affine_cpu_targets())
      if (target->name == GetParam()) return *target;
    throw std::runtime_error("no target " + GetParam());
  }
};

class AffineCpuTarget : public AffineTarget {};

class AffineVectorTarget : public AffineTarget {
 protected:
  void expect_scalar_results(const std::function<float(std::mt19937&, int64_t)>& fill) {
    const AffineCpu& scalar = *affine_cpu_targets().front();
    int failures = 0;
    for_problems(fill, [&](const Problem& problem) {
      if (failures == 5) return;
      const std::string found = difference(run_cpu(target(), problem), run_cpu(scalar, problem));
      if (found.empty()) return;
      ADD_FAILURE() << problem.text() << ": " << found;
      ++failures;
    });
  }
};

TEST_P(AffineVectorTarget, EqualsScalarOnRandomWeights) { expect_scalar_results(gaussian); }

TEST_P(AffineVectorTarget, EqualsScalarOnHardWeights) { expect_scalar_results(hard); }

TEST_P(AffineCpuTarget, RangeOfNaNAndInfinityIsNaN) {
  for (float bad : {std::nanf(""), -HUGE_VALF, HUGE_VALF}) {
    for (int64_t at : {0, 17, 37}) {
      const Problem p = make_problem({1, 38, 38, false}, 4, true, false, Element::kBF16, Element::kF16, 0,
                                     [&](std::mt19937&, int64_t i) { return i == at ? bad : 1.0f; });
      float low = 0, high = 0;
      target().range(p.layer, p.weight.bytes.data(), &low, &high, 0, 1);
      EXPECT_TRUE(std::isnan(low) && std::isnan(high)) << bad << " at " << at;
    }
  }
}

// Each 16-bit pattern in some lane, zeros beside it.
TEST_P(AffineCpuTarget, LoadsEvery16BitNumber) {
  for (Element type : {Element::kF16, Element::kBF16}) {
    const AffineLayer layer{1, kLanes, kLanes, false, true, false, 8, type, Element::kF32, 1e-8f};
    for (int pattern = 0; pattern < 1 << 16; ++pattern) {
      uint16_t weight[kLanes] = {};
      weight[pattern % kLanes] = static_cast<uint16_t>(pattern);
      const uint16_t bits = weight[pattern % kLanes];
      const float x = type == Element::kF16 ? static_cast<float>(std::bit_cast<_Float16>(bits))
                                            : std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
      float low = 0, high = 0;
      target().range(layer, weight, &low, &high, 0, 1);
      if (std::isfinite(x))
        ASSERT_EQ(low + high, x) << name_of(type) << " pattern " << pattern;
      else
        ASSERT_TRUE(std::isnan(low) && std::isnan(high)) << name_of(type) << " pattern " << pattern;
    }
  }
}

// Random bits, and numbers halfway between two of the 16-bit type: decoding scale * 1 stores them rounded.
TEST_P(AffineCpuTarget, RoundsAnyNumberTo16Bits) {
  std::mt19937 random(1);
  const uint8_t codes[kLanes] = {129, 129, 129, 129, 129, 129, 129, 129, 129, 129, 129, 129, 129, 129, 129, 129};
  for (Element type : {Element::kF16, Element::kBF16}) {
    const AffineLayer layer{1, kLanes, kLanes, false, true, false, 8, type, Element::kF32, 1e-8f};
    for (int i = 0; i < 100000; ++i) {
      uint32_t bits = random();
      if (i % 2)
        bits = (bits & ~(type == Element::kF16 ? 0x1fffu : 0xffffu)) | (type == Element::kF16 ? 0x1000u : 0x8000u);
      float scale;
      std::memcpy(&scale, &bits, 4);
      Elements out(type, kLanes);
      target().decode(layer, {const_cast<uint8_t*>(codes), &scale, nullptr}, out.bytes.data(), type, 0, 1);
      const std::vector<float> actual = out.values();
      const float expected = rounded(type, scale);
      for (float x : actual)
        ASSERT_TRUE(std::memcmp(&x, &expected, 4) == 0 || (std::isnan(x) && std::isnan(expected)))
            << name_of(type) << " of " << scale << ": expected " << expected << ", actual " << x;
    }
  }
}

const auto kName = [](const testing::TestParamInfo<std::string>& info) { return info.param; };
INSTANTIATE_TEST_SUITE_P(Compiled, AffineCpuTarget, testing::ValuesIn(target_names()), kName);
INSTANTIATE_TEST_SUITE_P(Compiled, AffineVectorTarget, testing::ValuesIn(vector_target_names()), kName);

}  // namespace
}  // namespace roundhouse::kernels
