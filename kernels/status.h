// SPDX-License-Identifier: Apache-2.0
// What a kernel cannot represent, as bits of a word: RH_STATUS_* of the ABI.
#pragma once

#include <stdint.h>

namespace roundhouse::kernels {

constexpr uint32_t kNotFinite = 1, kScaleRange = 2;

}  // namespace roundhouse::kernels
