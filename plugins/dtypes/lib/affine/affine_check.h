// SPDX-License-Identifier: Apache-2.0
// Schemes as the affine kernels can have them. Everything throws rh::Error, which says what would work.
#pragma once

#include <roundhouse/encoding/affine_int.hpp>
#include <roundhouse/plugin.hpp>

#include "kernels/affine.h"
#include "plugins/dtypes/lib/element_types.h"

#if defined(ROUNDHOUSE_WITH_CUDA)
inline constexpr uint32_t kAffineDevices = RH_SUPPORTS_CPU | RH_SUPPORTS_CUDA;
#else
inline constexpr uint32_t kAffineDevices = RH_SUPPORTS_CPU;
#endif

// How far factors of a range go that was searched: auto-round 0.16, SignRoundV2.
inline constexpr float kSearchedRangeLimit = 2;

// The type that the scheme asks for, or float16.
roundhouse::kernels::Element scale_type(const rh_scheme& scheme);

// The scheme of an input that was quantized as `encoding` says.
rh_scheme input_scheme(const rh::AffineInt& encoding, const char* dtype, int64_t cols);

// Checks what the data type `dtype` is asked for, and says it as the kernels want it. The rows of an activation are 0.
// Options are the caller's.
roundhouse::kernels::AffineLayer affine_layer(const rh_layer& layer, const char* dtype,
                                              roundhouse::kernels::Element scale);
