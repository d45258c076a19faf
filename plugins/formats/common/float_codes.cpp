#include "plugins/formats/common/float_codes.h"

#include <cmath>
#include <limits>
#include <roundhouse/plugin.hpp>

namespace roundhouse::formats {
namespace {

// What the codes with the largest exponent are, beside numbers.
enum class Special { kNone, kLastIsNan, kInfinityAndNan };

struct ElementType {
  const char* name;
  int bits;
  int exponent_bits;
  int mantissa_bits;  // bits less these two is 1 where there is a sign
  int bias;
  Special special;
};
constexpr ElementType kFloats[] = {
    {"fp8_e4m3", 8, 4, 3, 7, Special::kLastIsNan}, {"fp8_e5m2", 8, 5, 2, 15, Special::kInfinityAndNan},
    {"fp6_e2m3", 6, 2, 3, 1, Special::kNone},      {"fp6_e3m2", 6, 3, 2, 3, Special::kNone},
    {"fp4_e2m1", 4, 2, 1, 1, Special::kNone},      {"ue5m3", 8, 5, 3, 15, Special::kLastIsNan}};

float float_value(const ElementType& type, int code) {
  const int magnitude_bits = type.exponent_bits + type.mantissa_bits;
  const int magnitude = code & ((1 << magnitude_bits) - 1);
  const int exponent = magnitude >> type.mantissa_bits;
  const int mantissa = magnitude & ((1 << type.mantissa_bits) - 1);
  const int largest = (1 << type.exponent_bits) - 1;
  const float sign = code >> magnitude_bits ? -1.0f : 1.0f;
  if (type.special == Special::kLastIsNan && magnitude == (1 << magnitude_bits) - 1) {
    return std::numeric_limits<float>::quiet_NaN();
  }
  if (type.special == Special::kInfinityAndNan && exponent == largest) {
    return mantissa ? std::numeric_limits<float>::quiet_NaN() : sign * std::numeric_limits<float>::infinity();
  }
  const int significand = exponent ? mantissa + (1 << type.mantissa_bits) : mantissa;
  return sign * std::ldexp(static_cast<float>(significand), std::max(exponent, 1) - type.bias - type.mantissa_bits);
}

int integer_bits(const std::string& element) {
  return element == "int8" ? 8 : element == "int4" ? 4 : element == "int2" ? 2 : 0;
}

const ElementType& float_type(const std::string& element) {
  for (const ElementType& type : kFloats) {
    if (element == type.name) return type;
  }
  throw rh::Error(RH_INVALID_ARGUMENT, "there is no element type " + element);
}

}  // namespace

int code_bits(const std::string& element) {
  if (element == "e8m0") return 8;
  if (const int bits = integer_bits(element)) return bits;
  return float_type(element).bits;
}

std::vector<float> code_values(const std::string& element) {
  const int bits = code_bits(element);
  std::vector<float> values(size_t{1} << bits);
  for (int code = 0; code < static_cast<int>(values.size()); ++code) {
    if (element == "e8m0") {
      values[code] = code == 255 ? std::numeric_limits<float>::quiet_NaN() : std::ldexp(1.0f, code - 127);
    } else if (integer_bits(element)) {
      const int signed_code = code < 1 << (bits - 1) ? code : code - (1 << bits);
      values[code] = std::ldexp(static_cast<float>(signed_code), 2 - bits);
    } else {
      values[code] = float_value(float_type(element), code);
    }
  }
  return values;
}

}  // namespace roundhouse::formats
