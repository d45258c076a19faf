// SPDX-License-Identifier: Apache-2.0
// Runs the threads of a CUDA grid on one CPU thread, as fibers, so that warp and block collectives work as on hardware.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>

namespace cuda_emulation {

constexpr unsigned kWarp = 32;

struct Index {
  unsigned x = 0, y = 0, z = 0;
};

// Orders what the lanes of a warp do: of each lane, how many of its collectives happened before.
using Clock = std::array<uint32_t, kWarp>;

struct Thread {
  Index index;          // threadIdx
  unsigned linear = 0;  // within the block
  Clock synced{};       // by __syncwarp, which orders memory
  Clock met{};  // by any collective: a value that was read before a shuffle was read, but stores may be on their way
  unsigned lane() const { return linear % kWarp; }
};

struct Grid {
  Index blocks, threads;
  Index block;           // blockIdx of the running block
  uint64_t blocks_done;  // the number of the running block
};

// The running ones.
Thread& this_thread();
const Grid& this_grid();

// In which order the threads of a block, and the blocks of a grid, get their turn between two collectives. From the
// environment's CUDA_EMULATION_ORDER: forward (the default), reverse, random or random:<seed>.
enum class Order { kForward, kReverse, kRandom };

// Calls body() once for each thread. "" or what went wrong: a collective that some of its lanes never reach, a lane that
// is not in its own mask, a lane that reads from one outside of the mask or from one that has ended, or fail().
std::string run_grid(Index blocks, Index threads, const std::function<void()>& body);

// Ends the running grid with that message. Only within run_grid().
[[noreturn]] void fail(const std::string& what);

enum class Collective { kShuffle, kSyncWarp, kBallot, kSyncThreads };

// Waits until every lane of `mask` that has not ended is here too. Gives the value of `source_lane`.
uint32_t exchange(Collective kind, uint32_t mask, uint32_t value, unsigned source_lane);
// The lanes of `mask` whose value is not zero.
uint32_t ballot(uint32_t mask, bool value);
void sync_threads();

enum class Shuffle { kUp, kDown, kButterfly, kIndex };

// PTX's shfl.sync: `clamp` holds the segment mask in bits 8 to 12 and the clamp value in bits 0 to 4. `in_range` is
// whether the source lane lies in the segment; else the result is the lane's own value.
uint32_t shuffle(Shuffle mode, uint32_t mask, uint32_t value, uint32_t b, uint32_t clamp, bool& in_range);

}  // namespace cuda_emulation
