// SPDX-License-Identifier: Apache-2.0
#include "plugins/formats/lib/affine_int.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "host/abi/services.h"
#include "kernels/floats.h"

namespace roundhouse::formats {
namespace {

using kernels::bfloat_from_float;
using kernels::float_from_bfloat;
using kernels::float_from_half;
using kernels::half_from_float;

TEST(Float16, EveryHalfSurvivesTheWayThroughFloat) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float value = float_from_half(half);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(float_from_half(half_from_float(value))));
    } else {
      EXPECT_EQ(half_from_float(value), half);
    }
  }
}

TEST(Float16, RoundsToNearestEven) {
  EXPECT_EQ(half_from_float(1.0f + 0x1p-11f), 0x3c00);             // half way: to even
  EXPECT_EQ(half_from_float(1.0f + 0x1p-10f + 0x1p-11f), 0x3c02);  // half way: to even
  EXPECT_EQ(half_from_float(0x1p-25f), 0x0000);                    // half of the smallest
  EXPECT_EQ(half_from_float(std::nextafter(0x1p-25f, 1.0f)), 0x0001);
  EXPECT_EQ(half_from_float(65519.0f), 0x7bff);
  EXPECT_EQ(half_from_float(65520.0f), 0x7c00);  // infinity
  EXPECT_EQ(bfloat_from_float(1.0f + 0x1p-8f), 0x3f80);
  EXPECT_EQ(bfloat_from_float(1.0f + 0x1p-7f + 0x1p-8f), 0x3f82);
  EXPECT_EQ(bfloat_from_float(-0.0f), 0x8000);
  EXPECT_TRUE(std::isnan(float_from_bfloat(bfloat_from_float(std::numeric_limits<float>::quiet_NaN()))));
}

// GPTQ stores zero points less one, so 0 must go; no weight may change with it.
TEST(MirrorZeroPoints, LeavesWeightsAndNoZero) {
  rh::host_slot() = host_table();
  AffineLayer layer{4, false, 2, 6, 4, {0, 1, 7, 15, 3, 0, 9, 8, 15, 2, 6, 1}, {}, {0, 5, 15, 0}};
  for (float s : {0.5f, -0.25f, 2.0f, -3.0f}) layer.scale.push_back(half_from_float(s));
  const auto weights = [&] {
    std::vector<float> out(12);
    const rh::Encoding encoding(rh::AffineInt(layer.bits, false, 1, layer.group_cols), 2, 6);
    const rh::View codes(layer.codes.data(), rh::kU8, {2, 6}), scale(layer.scale.data(), rh::kF16, {2, 2}),
        zero_point(layer.zero_point.data(), rh::kU8, {2, 2}), view(out.data(), rh::kF32, {2, 6});
    const rh_tensor* tensors[] = {codes.get(), scale.get(), zero_point.get()};
    rh_tensor output = *view.get();
    rh::AffineInt::of(*encoding.get()).decode(*encoding.get(), tensors, output);
    return out;
  };
  const auto before = weights();
  EXPECT_EQ(before, (std::vector<float>{0, 0.5, 3.5, 7.5, 0.5, 1.25, -12, -14, 0, -26, -18, -3}));
  mirror_zero_points(layer);
  EXPECT_EQ(weights(), before);
  EXPECT_EQ(layer.zero_point, (std::vector<uint8_t>{15, 5, 15, 15}));
  EXPECT_EQ(layer.codes, (std::vector<uint8_t>{15, 14, 8, 0, 3, 0, 9, 8, 15, 2, 9, 14}));
}

}  // namespace
}  // namespace roundhouse::formats
