// The values of the codes of small element types, of OCP's Microscaling formats (1.0) and of NVIDIA's NVFP4.
#pragma once

#include <string>
#include <vector>

namespace roundhouse::formats {

// Bits of a code: "fp8_e4m3", "fp8_e5m2", "fp6_e2m3", "fp6_e3m2", "fp4_e2m1", "int8", "int4" or "int2" as mx/1 names
// them, or "ue5m3" or "e8m0". Throws rh::Error when there is no such element type.
int code_bits(const std::string& element);
// The value of every code, [2^code_bits].
std::vector<float> code_values(const std::string& element);

}  // namespace roundhouse::formats
