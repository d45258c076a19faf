// SPDX-License-Identifier: Apache-2.0
// Device memory on the host, with the checks that compute-sanitizer makes: accesses outside of allocations, misaligned
// ones, reads of what was never written, and races between threads.
//
// The checks of single accesses are for translated PTX, whose every load and store comes here; kernels compiled as C++
// access memory directly, and are best run under AddressSanitizer.
#pragma once

#include <cstddef>

namespace cuda_emulation {

// Filled with bytes that no test expects.
void* allocate(size_t bytes);
// false: not the start of an allocation.
bool release(void* data);
// As if it had just been allocated.
void renew(void* data);
bool holds(const void* data, size_t bytes);
void initialized(void* data, size_t bytes);

// A new launch: what it does is ordered after all that came before.
void begin_launch();
// Of the running thread; fail() when it must not be.
void check_load(const void* data, size_t bytes);
void check_store(void* data, size_t bytes);

}  // namespace cuda_emulation
