// SPDX-License-Identifier: Apache-2.0
// Memory of libtorch's CPU tensors that stays with the process between the iterations of a block: what an iteration
// frees, the next one wants again, and pages from the system cost a tenth of the time of a block.
#pragma once

#include <cstddef>

namespace roundhouse {

// While one lives, freed tensors of 64 KiB and more are kept for others of about their size, as long as they and all that
// is in use take hardly more than was in use at once; at its end all that is kept goes back to the system. Any thread may
// allocate and free, also tensors that outlive it. One at a time.
class KeepFreedTensors {
 public:
  KeepFreedTensors();
  ~KeepFreedTensors();
  KeepFreedTensors(const KeepFreedTensors&) = delete;
  KeepFreedTensors& operator=(const KeepFreedTensors&) = delete;

  // Bytes that are kept.
  static size_t kept();
};

}  // namespace roundhouse
