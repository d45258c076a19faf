// SPDX-License-Identifier: Apache-2.0
#include "tests/cuda_emulation/scheduler.h"

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <random>
#include <sstream>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace cuda_emulation {
namespace {

constexpr size_t kStack = 256 << 10;
constexpr unsigned kMostThreads = 1024;

const char* name_of(Collective kind) {
  switch (kind) {
    case Collective::kShuffle:
      return "a shuffle";
    case Collective::kSyncWarp:
      return "__syncwarp";
    case Collective::kBallot:
      return "a ballot";
    case Collective::kSyncThreads:
      return "__syncthreads";
  }
  return "";
}

void merge(Clock& into, const Clock& from) {
  for (unsigned lane = 0; lane < kWarp; ++lane) into[lane] = std::max(into[lane], from[lane]);
}

struct Fiber {
  enum class State { kReady, kWaiting, kEnded };

  Thread thread;
  State state = State::kReady;
  jmp_buf context;
  bool entered = false;  // its stack, which holds an unfinished body or waits for the next one
  char* stack = nullptr;
  void* fake_stack = nullptr;  // AddressSanitizer's

  // While waiting.
  Collective kind{};
  uint32_t mask = 0, value = 0, result = 0;
  unsigned source = 0;
};

class Scheduler {
 public:
  static Scheduler& instance() {
    static Scheduler scheduler;
    return scheduler;
  }

  std::string run(Index blocks, Index threads, const std::function<void()>& body) {
    const unsigned size = threads.x * threads.y * threads.z;
    if (size == 0 || size > kMostThreads) return "invalid configuration argument";
    grid_ = {blocks, threads, {}, 0};
    body_ = &body;
    failure_.clear();
    const uint64_t count = uint64_t{blocks.x} * blocks.y * blocks.z;
    if (count == 0) return "invalid configuration argument";
    std::vector<uint64_t> turns(count);
    arrange(turns);
    for (const uint64_t block : turns) {
      grid_.blocks_done = block;
      grid_.block = {static_cast<unsigned>(block % blocks.x), static_cast<unsigned>(block / blocks.x % blocks.y),
                     static_cast<unsigned>(block / blocks.x / blocks.y)};
      run_block(size);
      if (failure_.empty()) continue;
      for (Fiber& fiber : fibers_) fiber.entered = false;  // what is on their stacks is given up
      return place() + failure_;
    }
    return "";
  }

  Fiber& running() { return *running_; }
  const Grid& grid() const { return grid_; }

  // Gives the turn back.
  void suspend() {
    Fiber& self = *running_;
    if (_setjmp(self.context) == 0) {
      start_switch(&self.fake_stack, main_stack_, main_stack_size_);
      _longjmp(main_, 1);
    }
    finish_switch(self.fake_stack, &main_stack_, &main_stack_size_);
  }

  [[noreturn]] void fail(const std::string& what) {
    failure_ = what;
    failed_thread_ = running_->thread.linear;
    suspend();  // for good
    std::abort();
  }

  // Lets the lanes of a collective go on when all of them are there.
  bool complete(unsigned warp, Collective kind, uint32_t mask) {
    const unsigned first = kind == Collective::kSyncThreads ? 0 : warp * kWarp;
    const unsigned last = kind == Collective::kSyncThreads ? size_ : std::min(size_, first + kWarp);
    const auto takes_part = [&](unsigned i) {
      return fibers_[i].state != Fiber::State::kEnded &&
             (kind == Collective::kSyncThreads || (mask >> (i - first) & 1));
    };
    for (unsigned i = first; i < last; ++i) {
      if (!takes_part(i)) continue;
      const Fiber& fiber = fibers_[i];
      if (fiber.state != Fiber::State::kWaiting || fiber.kind != kind || fiber.mask != mask) return false;
    }
    Clock synced{}, met{};
    uint32_t votes = 0;
    for (unsigned i = first; i < last; ++i) {
      if (!takes_part(i)) continue;
      Fiber& fiber = fibers_[i];
      votes |= (fiber.value != 0 ? 1u : 0u) << (i % kWarp);
      if (kind == Collective::kSyncThreads) continue;
      ++fiber.thread.met[fiber.thread.lane()];
      merge(met, fiber.thread.met);
      if (kind != Collective::kSyncWarp) continue;
      ++fiber.thread.synced[fiber.thread.lane()];
      merge(synced, fiber.thread.synced);
    }
    for (unsigned i = first; i < last; ++i) {
      if (!takes_part(i)) continue;
      Fiber& fiber = fibers_[i];
      fiber.state = Fiber::State::kReady;
      if (kind != Collective::kSyncThreads) fiber.thread.met = met;
      if (kind == Collective::kSyncWarp) fiber.thread.synced = synced;
      if (kind == Collective::kBallot) fiber.result = votes;
      if (kind != Collective::kShuffle) continue;
      const unsigned source = first + fiber.source;
      if (source >= size_ || fibers_[source].state == Fiber::State::kEnded || !(mask >> fiber.source & 1)) {
        std::ostringstream text;
        text << "lane " << fiber.thread.lane() << " reads from lane " << fiber.source
             << (source < size_ && (mask >> fiber.source & 1) ? ", which has ended" : ", which is not in the mask");
        failure_ = text.str();
        failed_thread_ = fiber.thread.linear;
        return true;
      }
      fiber.result = fibers_[source].value;
    }
    return true;
  }

 private:
  Scheduler() {
    const char* wanted = std::getenv("CUDA_EMULATION_ORDER");
    const std::string text = wanted ? wanted : "forward";
    if (text == "reverse") order_ = Order::kReverse;
    if (text.rfind("random", 0) == 0) {
      order_ = Order::kRandom;
      random_.seed(text.size() > 7 ? static_cast<unsigned>(std::stoul(text.substr(7))) : 1u);
    }
    for (unsigned i = 0; i < kMostThreads; ++i) fibers_[i].stack = stacks_.get() + size_t{i} * kStack;
  }

  template <typename T>
  void arrange(std::vector<T>& order) {
    std::iota(order.begin(), order.end(), T{0});
    if (order_ == Order::kReverse) std::reverse(order.begin(), order.end());
    if (order_ == Order::kRandom) std::shuffle(order.begin(), order.end(), random_);
  }

  // What a fiber does: the body, once for each block.
  static void entry() {
    Scheduler& self = instance();
    finish_switch(nullptr, &self.main_stack_, &self.main_stack_size_);
    while (true) {
      Fiber& fiber = *self.running_;
      (*self.body_)();
      fiber.state = Fiber::State::kEnded;
      // Those who wait for its warp may go on without it.
      for (unsigned i = 0; i < self.size_; ++i)
        if (const Fiber& other = self.fibers_[i]; other.state == Fiber::State::kWaiting)
          self.complete(other.thread.linear / kWarp, other.kind, other.mask);
      self.suspend();
    }
  }

  // Stacks are entered by ucontext once, and by jumps from then on: swapcontext makes a system call each time.
  void resume(Fiber& fiber) {
    running_ = &fiber;
    void* fake = nullptr;
    if (_setjmp(main_) == 0) {
      start_switch(&fake, fiber.stack, kStack);
      if (fiber.entered) _longjmp(fiber.context, 1);
      fiber.entered = true;
      ucontext_t context;
      getcontext(&context);
      context.uc_stack.ss_sp = fiber.stack;
      context.uc_stack.ss_size = kStack;
      context.uc_link = nullptr;
      makecontext(&context, &entry, 0);
      setcontext(&context);
    }
    finish_switch(fake, nullptr, nullptr);
  }

  // AddressSanitizer has to know which stack is in use.
  static void start_switch([[maybe_unused]] void** fake, [[maybe_unused]] const void* stack,
                           [[maybe_unused]] size_t size) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(fake, stack, size);
#endif
  }
  static void finish_switch([[maybe_unused]] void* fake, [[maybe_unused]] const void** stack,
                            [[maybe_unused]] size_t* size) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake, stack, size);
#endif
  }

  void run_block(unsigned size) {
    size_ = size;
    std::vector<unsigned> turns(size);
    for (unsigned i = 0; i < size; ++i) {
      Fiber& fiber = fibers_[i];
      const Index n = grid_.threads;
      fiber.thread = {{i % n.x, i / n.x % n.y, i / n.x / n.y}, i, {}, {}};
      fiber.state = Fiber::State::kReady;
    }
    while (true) {
      arrange(turns);
      bool progress = false, waiting = false;
      for (const unsigned i : turns) {
        if (fibers_[i].state == Fiber::State::kReady) {
          resume(fibers_[i]);
          progress = true;
          if (!failure_.empty()) return;
        }
        waiting = waiting || fibers_[i].state != Fiber::State::kEnded;
      }
      if (!waiting) return;
      if (!progress) return report_deadlock();
    }
  }

  void report_deadlock() {
    for (unsigned thread = 0; thread < size_; ++thread) {
      const Fiber& fiber = fibers_[thread];
      if (fiber.state != Fiber::State::kWaiting) continue;
      std::ostringstream text;
      text << "waits forever at " << name_of(fiber.kind) << " with mask " << std::hex << fiber.mask << std::dec
           << "; its lanes";
      const unsigned first = fiber.thread.linear / kWarp * kWarp;
      for (unsigned i = first; i < std::min(size_, first + kWarp); ++i)
        if ((fiber.mask >> (i - first) & 1) && (fibers_[i].kind != fiber.kind || fibers_[i].mask != fiber.mask))
          text << " " << i - first;
      text << " are elsewhere";
      failure_ = text.str();
      failed_thread_ = fiber.thread.linear;
      return;
    }
  }

  std::string place() const {
    std::ostringstream text;
    text << "block " << grid_.block.x << ", thread " << failed_thread_ << ": ";
    return text.str();
  }

  Order order_ = Order::kForward;
  std::mt19937 random_;
  std::unique_ptr<char[]> stacks_{new char[kStack * kMostThreads]};  // touched as they are used
  Grid grid_{};
  const std::function<void()>* body_ = nullptr;
  std::vector<Fiber> fibers_{kMostThreads};
  unsigned size_ = 0;
  Fiber* running_ = nullptr;
  jmp_buf main_;
  const void* main_stack_ = nullptr;
  size_t main_stack_size_ = 0;
  std::string failure_;
  unsigned failed_thread_ = 0;
};

}  // namespace

Thread& this_thread() { return Scheduler::instance().running().thread; }
const Grid& this_grid() { return Scheduler::instance().grid(); }

std::string run_grid(Index blocks, Index threads, const std::function<void()>& body) {
  return Scheduler::instance().run(blocks, threads, body);
}

void fail(const std::string& what) { Scheduler::instance().fail(what); }

uint32_t exchange(Collective kind, uint32_t mask, uint32_t value, unsigned source_lane) {
  Scheduler& scheduler = Scheduler::instance();
  Fiber& self = scheduler.running();
  if (kind != Collective::kSyncThreads && !(mask >> self.thread.lane() & 1)) fail("a lane is not in its own mask");
  self.state = Fiber::State::kWaiting;
  self.kind = kind;
  self.mask = mask;
  self.value = value;
  self.source = source_lane;
  scheduler.complete(self.thread.linear / kWarp, kind, mask);
  scheduler.suspend();  // also when complete: the others get their turn first
  return self.result;
}

uint32_t ballot(uint32_t mask, bool value) { return exchange(Collective::kBallot, mask, value, 0); }
void sync_threads() { exchange(Collective::kSyncThreads, ~0u, 0, 0); }

uint32_t shuffle(Shuffle mode, uint32_t mask, uint32_t value, uint32_t b, uint32_t clamp, bool& in_range) {
  const unsigned lane = this_thread().lane(), by = b & 31, segment = clamp >> 8 & 31, limit = clamp & 31;
  const unsigned most = (lane & segment) | (limit & ~segment & 31), least = lane & segment;
  unsigned from = lane;
  switch (mode) {
    case Shuffle::kUp:
      from = lane - by;
      in_range = static_cast<int>(lane) - static_cast<int>(by) >= static_cast<int>(most);
      break;
    case Shuffle::kDown:
      from = lane + by;
      in_range = from <= most;
      break;
    case Shuffle::kButterfly:
      from = lane ^ by;
      in_range = from <= most;
      break;
    case Shuffle::kIndex:
      from = least | (by & ~segment);
      in_range = from <= most;
      break;
  }
  return exchange(Collective::kShuffle, mask, value, in_range ? from : lane);
}

}  // namespace cuda_emulation
