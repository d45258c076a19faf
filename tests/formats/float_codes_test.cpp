// The values of small element types at the ends of their ranges, from the OCP specifications' tables.
#include "plugins/formats/lib/float_codes.h"

#include <gtest/gtest.h>

#include <cmath>

namespace roundhouse::formats {
namespace {

TEST(FloatCodes, HaveTheSpecifiedValues) {
  struct Value {
    const char* element;
    int code;
    float value;
  };
  const Value values[] = {
      {"fp8_e4m3", 0x7e, 448.0f},   {"fp8_e4m3", 0x01, 0x1p-9f},  {"fp8_e4m3", 0x08, 0x1p-6f},
      {"fp8_e4m3", 0xb8, -1.0f},    {"fp8_e4m3", 0x07, 0x7p-9f},  {"fp8_e5m2", 0x7b, 57344.0f},
      {"fp8_e5m2", 0x01, 0x1p-16f}, {"fp8_e5m2", 0x7c, INFINITY}, {"fp8_e5m2", 0xfc, -INFINITY},
      {"fp8_e5m2", 0x3c, 1.0f},     {"fp6_e2m3", 0x1f, 7.5f},     {"fp6_e2m3", 0x01, 0.125f},
      {"fp6_e2m3", 0x28, -1.0f},    {"fp6_e3m2", 0x1f, 28.0f},    {"fp6_e3m2", 0x01, 0.0625f},
      {"fp4_e2m1", 0x1, 0.5f},      {"fp4_e2m1", 0x3, 1.5f},      {"fp4_e2m1", 0x7, 6.0f},
      {"fp4_e2m1", 0xa, -1.0f},     {"int8", 0x7f, 127.0f / 64},  {"int8", 0x80, -2.0f},
      {"int4", 0x7, 1.75f},         {"int4", 0xf, -0.25f},        {"int2", 0x1, 1.0f},
      {"int2", 0x2, -2.0f},         {"ue5m3", 0xfe, 114688.0f},   {"ue5m3", 0x01, 0x1p-17f},
      {"ue5m3", 0x78, 1.0f},        {"ue5m3", 0x80, 2.0f},        {"e8m0", 0, 0x1p-127f},
      {"e8m0", 127, 1.0f},          {"e8m0", 254, 0x1p127f},
  };
  for (const Value& v : values) {
    const auto table = code_values(v.element);
    ASSERT_EQ(table.size(), size_t{1} << code_bits(v.element)) << v.element;
    EXPECT_EQ(table.at(v.code), v.value) << v.element << " " << v.code;
  }
}

TEST(FloatCodes, HaveNotANumberWhereTheElementDoes) {
  EXPECT_TRUE(std::isnan(code_values("fp8_e4m3").at(0x7f)));
  EXPECT_TRUE(std::isnan(code_values("fp8_e4m3").at(0xff)));
  EXPECT_TRUE(std::isnan(code_values("fp8_e5m2").at(0x7d)));
  EXPECT_TRUE(std::isnan(code_values("ue5m3").at(0xff)));
  EXPECT_TRUE(std::isnan(code_values("e8m0").at(0xff)));
  EXPECT_TRUE(std::signbit(code_values("fp4_e2m1").at(0x8)));
}

TEST(FloatCodes, KnowNoOtherElement) { EXPECT_THROW(code_bits("fp5_e2m2"), std::exception); }

}  // namespace
}  // namespace roundhouse::formats
