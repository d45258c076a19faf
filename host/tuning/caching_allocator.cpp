// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/caching_allocator.h"

#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>

#include <cstddef>
#include <map>
#include <mutex>

namespace roundhouse {
namespace {

constexpr size_t kHeader = 64;  // libtorch's alignment; holds the size of what follows
constexpr size_t kSmallest = 64 << 10;

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
    const std::lock_guard lock(mutex_);
    keeping_ = on;
    if (!on) give_all_back(lock);
  }

  size_t kept() {
    const std::lock_guard lock(mutex_);
    size_t sum = 0;
    for (const auto& [bytes, data] : free_) sum += bytes;
    return sum;
  }

 private:
  void* take(size_t bytes) {
    if (bytes >= kSmallest) {
      const std::lock_guard lock(mutex_);
      const auto found = free_.lower_bound(bytes);
      if (found != free_.end() && found->first <= bytes + bytes / 4) {
        std::byte* data = found->second;
        free_.erase(found);
        return data;
      }
    }
    std::byte* data = nullptr;
    try {
      data = static_cast<std::byte*>(c10::alloc_cpu(bytes + kHeader)) + kHeader;
    } catch (const c10::Error&) {  // perhaps for want of what is kept
      const std::lock_guard lock(mutex_);
      give_all_back(lock);
      data = static_cast<std::byte*>(c10::alloc_cpu(bytes + kHeader)) + kHeader;
    }
    size_of(data) = bytes;
    return data;
  }

  // `lock` holds mutex_.
  void give_all_back(const std::lock_guard<std::mutex>& /*lock*/) {
    for (const auto& [bytes, data] : free_) c10::free_cpu(data - kHeader);
    free_.clear();
  }

  static void give_back(void* pointer) {
    if (!pointer) return;
    auto* data = static_cast<std::byte*>(pointer);
    CachingAllocator& self = instance();
    const size_t bytes = size_of(data);
    if (bytes >= kSmallest) {
      const std::lock_guard lock(self.mutex_);
      if (self.keeping_) {
        self.free_.emplace(bytes, data);
        return;
      }
    }
    c10::free_cpu(data - kHeader);
  }

  static size_t& size_of(std::byte* data) { return *reinterpret_cast<size_t*>(data - kHeader); }

  std::mutex mutex_;
  std::multimap<size_t, std::byte*> free_;  // by size
  bool keeping_ = false;
};

}  // namespace

KeepFreedTensors::KeepFreedTensors() { CachingAllocator::instance().keep(true); }
KeepFreedTensors::~KeepFreedTensors() { CachingAllocator::instance().keep(false); }
size_t KeepFreedTensors::kept() { return CachingAllocator::instance().kept(); }

}  // namespace roundhouse
