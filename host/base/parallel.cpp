#include "host/base/parallel.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace roundhouse {
namespace {

int available_processors() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

// One parallel_for in progress. Workers and the caller take chunks from `next` until none is left.
struct Job {
  const std::function<void(int64_t, int64_t)>* body;
  int64_t n, grain, chunks;
  std::atomic<int64_t> next{0};
  std::mutex mutex;
  std::exception_ptr failure;

  void work() {
    for (;;) {
      const int64_t chunk = next.fetch_add(1);
      if (chunk >= chunks) return;
      const int64_t begin = chunk * grain;
      try {
        (*body)(begin, std::min(n, begin + grain));
      } catch (...) {
        std::lock_guard lock(mutex);
        if (!failure) failure = std::current_exception();
      }
    }
  }
};

class Pool {
 public:
  ~Pool() { stop(); }

  void run(Job& job, int threads) {
    resize(threads - 1);
    {
      std::lock_guard lock(mutex_);
      job_ = &job;
      working_ = static_cast<int>(workers_.size());
      ++generation_;
    }
    wake_.notify_all();
    job.work();
    std::unique_lock lock(mutex_);
    done_.wait(lock, [&] { return working_ == 0; });
    job_ = nullptr;
  }

 private:
  void resize(int workers) {
    if (static_cast<int>(workers_.size()) == workers) return;
    stop();
    stopping_ = false;
    for (int i = 0; i < workers; ++i) workers_.emplace_back([this, seen = generation_]() mutable { loop(seen); });
  }

  void stop() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (auto& worker : workers_) worker.join();
    workers_.clear();
  }

  void loop(uint64_t seen) {
    for (;;) {
      Job* job;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return stopping_ || generation_ != seen; });
        if (stopping_) return;
        seen = generation_;
        job = job_;
      }
      job->work();
      std::lock_guard lock(mutex_);
      if (--working_ == 0) done_.notify_one();
    }
  }

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  Job* job_ = nullptr;
  int working_ = 0;
  uint64_t generation_ = 0;
  bool stopping_ = false;
};

std::atomic<int> g_threads{0};
thread_local bool t_inside = false;

}  // namespace

void set_threads(int n) { g_threads = n; }

int threads() {
  const int n = g_threads;
  return n > 0 ? n : available_processors();
}

void parallel_for(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t)>& body) {
  if (n <= 0) return;
  grain = std::max<int64_t>(1, grain);
  const std::function<void(int64_t, int64_t)> flagged = [&](int64_t begin, int64_t end) {
    const bool outer = t_inside;
    t_inside = true;
    try {
      body(begin, end);
    } catch (...) {
      t_inside = outer;
      throw;
    }
    t_inside = outer;
  };
  Job job{&flagged, n, grain, (n + grain - 1) / grain, {}, {}, {}};
  static std::mutex one_at_a_time;
  static Pool pool;
  std::unique_lock lock(one_at_a_time, std::defer_lock);
  if (job.chunks > 1 && threads() > 1 && !t_inside && lock.try_lock()) {
    pool.run(job, threads());
  } else {
    job.work();
  }
  if (job.failure) std::rethrow_exception(job.failure);
}

}  // namespace roundhouse
