// SPDX-License-Identifier: Apache-2.0
// lib/roundhouse/libroundhouse_cuda.so, which the host loads before a run on a GPU.
#include "kernels/cuda/block.h"

extern "C" __attribute__((visibility("default"))) const roundhouse::kernels::BlockKernels* roundhouse_block_kernels() {
  return &roundhouse::kernels::block_cuda();
}
