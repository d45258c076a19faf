// SPDX-License-Identifier: Apache-2.0
// The processes of one run: a launcher such as mpirun starts them, each has a rank, and all do the same in the same
// order, but for what is one rank's share. A run of one process has no ranks.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace roundhouse {

// One thread at a time. Everything throws Error when the others cannot be reached, and Cancelled while it waits.
class Ranks {
 public:
  virtual ~Ranks() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  // Threads for this process, of the processors that those on its machine share.
  virtual int threads() const = 0;

  // Sends behind; `keep` holds the bytes until they are gone. Between two ranks nothing overtakes.
  virtual void post(int to, const void* data, uint64_t bytes, std::shared_ptr<const void> keep) = 0;
  // Waits until all that was posted is gone.
  virtual void flush() = 0;
  virtual void receive(int from, void* data, uint64_t bytes) = 0;
  // Of another rank than the first, which ends with it where it waits the next time.
  virtual void tell_failure(const std::string& text) = 0;
  // Ends all processes at once, this one with `status`.
  [[noreturn]] virtual void end_all(int status) = 0;

  void post(int to, const std::string& text);
  std::string receive(int from);
  // Rank 0's, on every rank.
  std::string from_first(const std::string& text);
  // Every rank's, in their order, on every rank.
  std::vector<std::string> from_all(const std::string& text);
};

// Those of this process; nullptr: it is alone.
Ranks* ranks();
inline int this_rank() { return ranks() ? ranks()->rank() : 0; }
inline int rank_count() { return ranks() ? ranks()->size() : 1; }

// What a launcher's environment says of this process, before join_ranks(): its rank; nothing: there is no launcher, or
// ROUNDHOUSE_RANKS is off.
std::optional<int> launched_rank();
// The library with MPI, which a build without one lacks.
std::filesystem::path mpi_library();
// Finds the others where a launcher has started several. Throws Error when that fails.
void join_ranks();
// Every rank, when all is done: ranks() is nullptr from then on.
void leave_ranks();

}  // namespace roundhouse
