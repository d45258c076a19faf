// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/caching_allocator.h"

#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <malloc.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <new>

namespace roundhouse {
namespace {

constexpr size_t kHeader = 64;  // bytes before a tensor's: libtorch's alignment
constexpr size_t kSmallest = 64 << 10, kMapped = 128 << 10;
constexpr size_t kSlack = 64;  // of the most: with 16 a block of many experts takes 5 % less time and 4 % more memory

// Keeps no more than fits, with what is in use, into a little more than the most that was in use at once: sizes that differ
// from one iteration to the next would else pile up. What was freed first goes first.
class CachingAllocator : public c10::Allocator {
 public:
  static CachingAllocator& instance() {
    static CachingAllocator* const allocator = [] {
      auto* made = new CachingAllocator;  // outlives every tensor
      c10::SetCPUAllocator(made, /*priority=*/1);
      return made;
    }();
    return *allocator;
  }

  c10::DataPtr allocate(size_t bytes) override {
    void* data = bytes == 0 ? nullptr : take(bytes);
    return {data, data, &give_back, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &give_back; }
  void copy_data(void* to, const void* from, size_t bytes) const override { default_copy_data(to, from, bytes); }

  void keep(bool on) {
    if (on) malloc_trim(0);  // the holes that other tensors left
    const std::lock_guard lock(mutex_);
    keeping_ = on;
    most_used_ = used_;
    if (!on) give_back_to(0, lock);
  }

  size_t kept() {
    const std::lock_guard lock(mutex_);
    return kept_;
  }

 private:
  struct Free {
    std::byte* data;
    uint64_t number;  // in the order in which they were freed
  };
  using BySize = std::multimap<size_t, Free>;

  void* take(size_t bytes) {
    if (bytes >= kSmallest) {
      const std::lock_guard lock(mutex_);
      if (const auto found = free_.lower_bound(bytes); found != free_.end() && found->first <= bytes + bytes / 4) {
        std::byte* data = found->second.data;
        used_ += found->first;
        remove(found);
        return data;
      }
      used_ += bytes;
      most_used_ = std::max(most_used_, used_);
      give_back_to(most_used_ - used_ + most_used_ / kSlack, lock);
    }
    std::byte* data = nullptr;
    try {
      data = new_memory(bytes);
    } catch (const c10::Error&) {  // perhaps for want of what is kept
      const std::lock_guard lock(mutex_);
      give_back_to(0, lock);
      if (bytes >= kSmallest) used_ -= bytes;  // until it is there
      data = new_memory(bytes);
      if (bytes >= kSmallest) used_ += bytes;
    }
    return data;
  }

  // Until at most `bytes` are kept. `lock` holds mutex_.
  void give_back_to(size_t bytes, const std::lock_guard<std::mutex>& /*lock*/) {
    while (kept_ > bytes) {
      const BySize::iterator oldest = by_age_.begin()->second;
      std::byte* data = oldest->second.data;
      remove(oldest);
      free_memory(data);
    }
  }

  void remove(BySize::iterator entry) {
    kept_ -= entry->first;
    by_age_.erase(entry->second.number);
    free_.erase(entry);
  }

  static void give_back(void* pointer) {
    if (!pointer) return;
    auto* data = static_cast<std::byte*>(pointer);
    CachingAllocator& self = instance();
    const size_t bytes = header_of(data).bytes;
    if (bytes >= kSmallest) {
      const std::lock_guard lock(self.mutex_);
      self.used_ -= bytes;
      if (self.keeping_) {
        self.kept_ += bytes;
        self.by_age_.emplace(self.freed_, self.free_.emplace(bytes, Free{data, self.freed_}));
        ++self.freed_;
        return;
      }
    }
    free_memory(data);
  }

  // From the heap, or, while tensors are kept, in pages of its own where it is large: such leave no holes in the heap.
  std::byte* new_memory(size_t bytes) {
    void* memory = MAP_FAILED;
    if (keeping_ && bytes >= kMapped) {
      memory = mmap(nullptr, bytes + kHeader, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (memory != MAP_FAILED) madvise(memory, bytes + kHeader, MADV_HUGEPAGE);
    }
    const bool mapped = memory != MAP_FAILED;
    if (!mapped) memory = c10::alloc_cpu(bytes + kHeader);
    new (memory) Header{bytes, mapped};
    return static_cast<std::byte*>(memory) + kHeader;
  }

  static void free_memory(std::byte* data) {
    const Header header = header_of(data);
    if (header.mapped)
      munmap(data - kHeader, header.bytes + kHeader);
    else
      c10::free_cpu(data - kHeader);
  }

  struct Header {
    size_t bytes;  // of what follows
    bool mapped;
  };
  static_assert(sizeof(Header) <= kHeader);
  static const Header& header_of(std::byte* data) { return *reinterpret_cast<const Header*>(data - kHeader); }

  std::mutex mutex_;
  BySize free_;
  std::map<uint64_t, BySize::iterator> by_age_;
  uint64_t freed_ = 0;
  size_t kept_ = 0, used_ = 0, most_used_ = 0;  // bytes, of tensors that are large enough to be kept
  std::atomic<bool> keeping_ = false;
};

}  // namespace

KeepFreedTensors::KeepFreedTensors() { CachingAllocator::instance().keep(true); }
KeepFreedTensors::~KeepFreedTensors() { CachingAllocator::instance().keep(false); }
size_t KeepFreedTensors::kept() { return CachingAllocator::instance().kept(); }

}  // namespace roundhouse
