// SPDX-License-Identifier: Apache-2.0
// Rounding without the model: one layer at a time, in the order of the checkpoint.
#pragma once

#include "host/tuning/quantize.h"

namespace roundhouse {

// Every rank (host/ranks/ranks.h) calls it: the layers are divided among them, and the first one's sink gets all.
// REQUIRES: the plan rounds only. Throws Error; the sink then got a part.
void round_layers(const QuantizeInput& input, QuantizeSink& sink);

}  // namespace roundhouse
