// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/block.h"

namespace roundhouse::kernels {

const BlockKernels& block_cuda();

}  // namespace roundhouse::kernels
