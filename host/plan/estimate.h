// SPDX-License-Identifier: Apache-2.0
// How large a plan's results will be, and how long its work will take.
#pragma once

#include <cstdint>

#include "host/checkpoint/safetensors.h"
#include "host/discovery/catalogue.h"
#include "host/plan/plan.h"

namespace roundhouse {

// Bytes of so many calibration samples at that many points of the chain of blocks.
uint64_t hidden_state_bytes(const Recipe& recipe, int64_t samples, int64_t hidden_size, int64_t points);

// Fills in the plan's sizes and time, and the engines that take each format's checkpoint. REQUIRES: every quantized
// layer has its encoding.
void estimate(Plan& plan, TensorSource& source, const Catalogue& catalogue, int64_t hidden_size);

}  // namespace roundhouse
