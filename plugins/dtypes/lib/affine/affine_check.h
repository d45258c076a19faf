// Schemes as the affine kernels can have them. Everything throws rh::Error, which says what would work.
#pragma once

#include <roundhouse/plugin.hpp>

#include "kernels/affine.h"
#include "plugins/dtypes/lib/element_types.h"

#if defined(ROUNDHOUSE_WITH_CUDA)
inline constexpr uint32_t kAffineDevices = RH_SUPPORTS_CPU | RH_SUPPORTS_CUDA;
#else
inline constexpr uint32_t kAffineDevices = RH_SUPPORTS_CPU;
#endif

// JSON Schema of the options: {"mirrored": true} is AffineLayer::mirrored.
inline constexpr const char* kAffineOptions =
    R"({"type": "object", "properties": {"mirrored": {"type": "boolean"}}, "additionalProperties": false})";

// The type that the scheme asks for, or float16.
roundhouse::kernels::Element scale_type(const rh_scheme& scheme);

// Checks what the data type `dtype` is asked for, and says it as the kernels want it. The rows of an activation are 0.
roundhouse::kernels::AffineLayer affine_layer(const rh_layer& layer, const char* dtype,
                                              roundhouse::kernels::Element scale);
