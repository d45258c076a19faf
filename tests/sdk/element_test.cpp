// SPDX-License-Identifier: Apache-2.0
// The values of small element types at the ends of their ranges, from the OCP specifications' tables.
#include <gtest/gtest.h>

#include <cmath>
#include <roundhouse/encoding/element.hpp>

namespace rh {
namespace {

TEST(Element, HaveTheSpecifiedValues) {
  struct Value {
    Element element;
    int code;
    float value;
  };
  const Value values[] = {
      {kFp8E4M3, 0x7e, 448.0f},    {kFp8E4M3, 0x01, 0x1p-9f},  {kFp8E4M3, 0x08, 0x1p-6f},  {kFp8E4M3, 0xb8, -1.0f},
      {kFp8E4M3, 0x07, 0x7p-9f},   {kFp8E5M2, 0x7b, 57344.0f}, {kFp8E5M2, 0x01, 0x1p-16f}, {kFp8E5M2, 0x7c, INFINITY},
      {kFp8E5M2, 0xfc, -INFINITY}, {kFp8E5M2, 0x3c, 1.0f},     {kFp6E2M3, 0x1f, 7.5f},     {kFp6E2M3, 0x01, 0.125f},
      {kFp6E2M3, 0x28, -1.0f},     {kFp6E3M2, 0x1f, 28.0f},    {kFp6E3M2, 0x01, 0.0625f},  {kFp4E2M1, 0x1, 0.5f},
      {kFp4E2M1, 0x3, 1.5f},       {kFp4E2M1, 0x7, 6.0f},      {kFp4E2M1, 0xa, -1.0f},     {kInt8, 0x7f, 127.0f / 64},
      {kInt8, 0x80, -2.0f},        {kInt4, 0x7, 1.75f},        {kInt4, 0xf, -0.25f},       {kInt2, 0x1, 1.0f},
      {kInt2, 0x2, -2.0f},         {kUe5M3, 0xfe, 114688.0f},  {kUe5M3, 0x01, 0x1p-17f},   {kUe5M3, 0x78, 1.0f},
      {kUe5M3, 0x80, 2.0f},        {kE8M0, 0, 0x1p-127f},      {kE8M0, 127, 1.0f},         {kE8M0, 254, 0x1p127f},
  };
  for (const Value& v : values) {
    const auto table = element_values(v.element);
    ASSERT_EQ(table.size(), size_t{1} << v.element.bits);
    EXPECT_EQ(table.at(v.code), v.value) << v.element.bits << " bits, code " << v.code;
  }
}

TEST(Element, HaveNotANumberWhereTheElementDoes) {
  EXPECT_TRUE(std::isnan(element_values(kFp8E4M3).at(0x7f)));
  EXPECT_TRUE(std::isnan(element_values(kFp8E4M3).at(0xff)));
  EXPECT_TRUE(std::isnan(element_values(kFp8E5M2).at(0x7d)));
  EXPECT_TRUE(std::isnan(element_values(kUe5M3).at(0xff)));
  EXPECT_TRUE(std::isnan(element_values(kE8M0).at(0xff)));
  EXPECT_TRUE(std::signbit(element_values(kFp4E2M1).at(0x8)));
}

}  // namespace
}  // namespace rh
