#include "plugins/formats/lib/float_codes.h"

#include <cmath>
#include <roundhouse/plugin.hpp>

#include "kernels/small_float.h"

namespace roundhouse::formats {
namespace {

using kernels::SmallFloat;

struct Named {
  const char* name;
  SmallFloat format;
};
constexpr Named kElements[] = {
    {"fp8_e4m3", kernels::e4m3()}, {"fp8_e5m2", kernels::e5m2()}, {"fp6_e2m3", kernels::e2m3()},
    {"fp6_e3m2", kernels::e3m2()}, {"fp4_e2m1", kernels::e2m1()}, {"int8", kernels::int8()},
    {"int4", kernels::int4()},     {"int2", kernels::int2()},     {"ue5m3", kernels::ue5m3()}};

const SmallFloat& format_of(const std::string& element) {
  for (const Named& known : kElements) {
    if (element == known.name) return known.format;
  }
  throw rh::Error(RH_INVALID_ARGUMENT, "there is no element type " + element);
}

}  // namespace

int code_bits(const std::string& element) { return element == "e8m0" ? 8 : format_of(element).bits; }

std::vector<float> code_values(const std::string& element) {
  std::vector<float> values(size_t{1} << code_bits(element));
  for (size_t code = 0; code < values.size(); ++code) {
    if (element == "e8m0") {
      values[code] = code == 255 ? NAN : kernels::power_of_two(static_cast<int32_t>(code) - 127);
    } else {
      values[code] = kernels::small_value(format_of(element), static_cast<uint8_t>(code));
    }
  }
  return values;
}

}  // namespace roundhouse::formats
