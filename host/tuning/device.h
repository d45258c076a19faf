// SPDX-License-Identifier: Apache-2.0
// Which device a run computes on. No libtorch here.
#pragma once

#include <string>

#include "host/recipe/recipe.h"

namespace roundhouse {

// The device that will be used, "cpu" or "cuda:1". Throws Error when one that was asked for is not there. Says in one
// line when a libtorch with CUDA finds no device for `auto`.
std::string resolve_device(const DeviceChoice& wanted);

}  // namespace roundhouse
