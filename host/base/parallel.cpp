// SPDX-License-Identifier: Apache-2.0
#include "host/base/parallel.h"

#ifdef _OPENMP
#include <omp.h>
#endif
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace roundhouse {
namespace {

int available_processors() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

std::atomic<int> g_threads{0};

}  // namespace

void set_threads(int n) { g_threads = n; }

int threads() {
  const int n = g_threads;
  return n > 0 ? n : available_processors();
}

// OpenMP, because libtorch uses it too: two pools would fight for the processors. Without it, threads of the call's own:
// ThreadSanitizer does not see how OpenMP's wait for each other.
void parallel_for(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t)>& body) {
  if (n <= 0) return;
  grain = std::max<int64_t>(1, grain);
  const int64_t chunks = (n + grain - 1) / grain;
  std::mutex mutex;
  std::exception_ptr failure;
  const auto run = [&](int64_t chunk) {
    try {
      body(chunk * grain, std::min(n, (chunk + 1) * grain));
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
    }
  };
#ifdef _OPENMP
  const int team = omp_in_parallel() ? 1 : static_cast<int>(std::min<int64_t>(threads(), chunks));
#pragma omp parallel for schedule(dynamic, 1) num_threads(team) if (team > 1)
  for (int64_t chunk = 0; chunk < chunks; ++chunk) run(chunk);
#else
  thread_local bool inside = false;
  const int64_t team = inside ? 1 : std::min<int64_t>(threads(), chunks);
  std::atomic<int64_t> next{0};
  const auto work = [&] {
    const bool nested = std::exchange(inside, true);
    for (int64_t chunk; (chunk = next++) < chunks;) run(chunk);
    inside = nested;
  };
  {
    std::vector<std::jthread> others;
    for (int64_t i = 1; i < team; ++i) others.emplace_back(work);
    work();
  }
#endif
  if (failure) std::rethrow_exception(failure);
}

}  // namespace roundhouse
