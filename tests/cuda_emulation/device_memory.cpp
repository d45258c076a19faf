// SPDX-License-Identifier: Apache-2.0
#include "tests/cuda_emulation/device_memory.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <sstream>
#include <vector>

#include "tests/cuda_emulation/scheduler.h"

namespace cuda_emulation {
namespace {

constexpr uint32_t kNobody = ~0u;

// Who accessed a byte in this launch. Threads of different warps are never ordered: the kernels have no __syncthreads.
struct Readers {
  uint32_t warp = kNobody;
  bool of_many_warps = false;
  Clock when{};  // each lane's clock, plus one
};

struct Byte {
  bool written = false;  // ever
  uint32_t launch = 0;   // to which the rest belongs
  uint32_t writer = kNobody;
  uint32_t when = 0;
  std::unique_ptr<Readers> readers;
};

struct Allocation {
  size_t bytes;
  std::vector<Byte> shadow;
};

std::map<uintptr_t, Allocation>& allocations() {
  static std::map<uintptr_t, Allocation> map;
  return map;
}

uint32_t launch = 0;

Allocation* find(uintptr_t address, size_t bytes, uintptr_t& start) {
  static uintptr_t last_start = 0;
  static Allocation* last = nullptr;
  static uint32_t last_launch = 0;
  if (last && last_launch == launch && address >= last_start && address + bytes <= last_start + last->bytes) {
    start = last_start;
    return last;
  }
  auto after = allocations().upper_bound(address);
  if (after == allocations().begin()) return nullptr;
  --after;
  if (address + bytes > after->first + after->second.bytes) return nullptr;
  last_launch = launch;
  start = last_start = after->first;
  return last = &after->second;
}

uint32_t thread_number() {
  const Grid& grid = this_grid();
  const uint32_t warps = (grid.threads.x * grid.threads.y * grid.threads.z + kWarp - 1) / kWarp;
  return static_cast<uint32_t>(grid.blocks_done) * warps * kWarp + this_thread().linear;
}

// Whether what thread `other` did at its time `when` came before what the running thread does now.
bool before(uint32_t other, uint32_t when, const Clock& clock) {
  const uint32_t self = thread_number();
  return other == self || (other / kWarp == self / kWarp && clock[other % kWarp] > when);
}

// After loads. CUDA_EMULATION_STRICT=1: as CUDA's memory model has it, where a shuffle orders nothing.
const Clock& clock_of_loads() {
  static const bool strict = std::getenv("CUDA_EMULATION_STRICT");
  return strict ? this_thread().synced : this_thread().met;
}

[[noreturn]] void fail_at(const char* what, const void* data, size_t bytes, uintptr_t start, const Allocation* in) {
  std::ostringstream text;
  text << what << " of " << bytes << " bytes at " << data;
  if (in) text << ", byte " << reinterpret_cast<uintptr_t>(data) - start << " of an allocation of " << in->bytes;
  fail(text.str());
}

Byte* bytes_of(const void* data, size_t bytes, const char* what, uintptr_t& start, Allocation*& in) {
  const auto address = reinterpret_cast<uintptr_t>(data);
  in = find(address, bytes, start);
  if (!in) fail_at((std::string(what) + " outside of device memory").c_str(), data, bytes, 0, nullptr);
  if (address % bytes != 0) fail_at((std::string("misaligned ") + what).c_str(), data, bytes, start, in);
  Byte* first = &in->shadow[address - start];
  for (size_t i = 0; i < bytes; ++i) {
    Byte& byte = first[i];
    if (byte.launch == launch) continue;
    byte.launch = launch;
    byte.writer = kNobody;
    byte.readers.reset();
  }
  return first;
}

}  // namespace

void* allocate(size_t bytes) {
  constexpr size_t kAlignment = 256;  // as cudaMalloc's
  void* data = std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
  if (!data) return nullptr;
  allocations()[reinterpret_cast<uintptr_t>(data)].bytes = bytes;
  renew(data);
  return data;
}

void renew(void* data) {
  Allocation& of = allocations().at(reinterpret_cast<uintptr_t>(data));
  std::memset(data, 0xd7, of.bytes);
  of.shadow = std::vector<Byte>(of.bytes);
}

bool release(void* data) {
  if (!data) return true;
  if (allocations().erase(reinterpret_cast<uintptr_t>(data)) == 0) return false;
  ++launch;  // find() must not remember it
  std::free(data);
  return true;
}

bool holds(const void* data, size_t bytes) {
  uintptr_t start;
  return find(reinterpret_cast<uintptr_t>(data), bytes, start);
}

void initialized(void* data, size_t bytes) {
  uintptr_t start;
  Allocation* in = find(reinterpret_cast<uintptr_t>(data), bytes, start);
  for (size_t i = 0; i < bytes; ++i) in->shadow[reinterpret_cast<uintptr_t>(data) - start + i].written = true;
}

void begin_launch() { ++launch; }

void check_load(const void* data, size_t bytes) {
  uintptr_t start;
  Allocation* in;
  Byte* first = bytes_of(data, bytes, "load", start, in);
  const uint32_t self = thread_number(), lane = self % kWarp;
  for (size_t i = 0; i < bytes; ++i) {
    Byte& byte = first[i];
    if (!byte.written) fail_at("load of what was never written,", data, bytes, start, in);
    if (byte.writer != kNobody && !before(byte.writer, byte.when, this_thread().synced))
      fail_at("race: load", data, bytes, start, in);
    if (!byte.readers) byte.readers = std::make_unique<Readers>();
    Readers& readers = *byte.readers;
    if (readers.warp == kNobody) readers.warp = self / kWarp;
    readers.of_many_warps = readers.of_many_warps || readers.warp != self / kWarp;
    if (readers.warp == self / kWarp) readers.when[lane] = clock_of_loads()[lane] + 1;
  }
}

void check_store(void* data, size_t bytes) {
  uintptr_t start;
  Allocation* in;
  Byte* first = bytes_of(data, bytes, "store", start, in);
  const uint32_t self = thread_number();
  for (size_t i = 0; i < bytes; ++i) {
    Byte& byte = first[i];
    if (byte.writer != kNobody && !before(byte.writer, byte.when, this_thread().synced))
      fail_at("race: store over", data, bytes, start, in);
    if (byte.readers) {
      const Readers& readers = *byte.readers;
      bool raced = readers.of_many_warps || readers.warp != self / kWarp;
      for (uint32_t lane = 0; lane < kWarp && !raced; ++lane)
        raced =
            readers.when[lane] != 0 && !before(readers.warp * kWarp + lane, readers.when[lane] - 1, clock_of_loads());
      if (raced) fail_at("race with a load: store", data, bytes, start, in);
    }
    byte.written = true;
    byte.writer = self;
    byte.when = this_thread().synced[self % kWarp];
  }
}

}  // namespace cuda_emulation
