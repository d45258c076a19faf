// SPDX-License-Identifier: Apache-2.0
#include "host/base/parallel.h"

#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>

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

// OpenMP, because libtorch uses it too: two pools would fight for the processors.
void parallel_for(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t)>& body) {
  if (n <= 0) return;
  grain = std::max<int64_t>(1, grain);
  const int64_t chunks = (n + grain - 1) / grain;
  std::mutex mutex;
  std::exception_ptr failure;
  const int team = omp_in_parallel() ? 1 : static_cast<int>(std::min<int64_t>(threads(), chunks));
#pragma omp parallel for schedule(dynamic, 1) num_threads(team) if (team > 1)
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    try {
      body(chunk * grain, std::min(n, (chunk + 1) * grain));
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace roundhouse
