// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "host/model/descriptor.h"
#include "host/model/structure.h"

namespace roundhouse {

// Fills the descriptor's structure with config.json's numbers. Throws Error for what either file lacks or contradicts.
DecoderInfo resolve(const Descriptor& descriptor);

}  // namespace roundhouse
