// SPDX-License-Identifier: Apache-2.0
// The host's worker threads. Chunks depend on n and grain alone, so that results do not depend on the thread count.
#pragma once

#include <cstdint>
#include <functional>

namespace roundhouse {

// Threads used by parallel_for; 0 restores the default (the processors this process may use).
void set_threads(int n);
int threads();

// Calls body(begin, end) for consecutive chunks of `grain` items (the last may be shorter) covering [0, n).
// Chunks run on any thread, in any order. An exception in one is rethrown here after all have ended.
// Not reentrant: a nested call runs on the calling thread.
void parallel_for(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t)>& body);

}  // namespace roundhouse
