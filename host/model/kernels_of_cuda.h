// SPDX-License-Identifier: Apache-2.0
// No libtorch here.
#pragma once

#include "kernels/block.h"

namespace roundhouse {

// Of the devices that plugins get as RH_DEVICE_CUDA; NULL: libtorch's operators do their work. Set before a run begins.
inline const kernels::BlockKernels* kernels_of_cuda = nullptr;

}  // namespace roundhouse
