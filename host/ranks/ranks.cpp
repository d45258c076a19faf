// SPDX-License-Identifier: Apache-2.0
#include "host/ranks/ranks.h"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <chrono>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <thread>
#include <utility>

#include "host/base/cancel.h"
#include "host/base/crash.h"
#include "host/base/environment.h"
#include "host/base/error.h"
#include "host/base/log.h"
#include "host/ranks/mpi_functions.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMessageBytes = 1 << 30;  // MPI counts with an int
constexpr const char* kLibrary = "libroundhouse_mpi.so";

// The variables by which launchers tell a process its place: Open MPI's mpirun; those that speak PMI (MPICH's and Intel's
// mpirun, srun --mpi=pmi2).
struct Launcher {
  const char *rank, *size;
};
constexpr Launcher kLaunchers[] = {{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"}, {"PMI_RANK", "PMI_SIZE"}};

std::optional<int> number_in(const char* variable) {
  const std::string text = environment_variable(variable);
  if (text.empty()) return std::nullopt;
  return static_cast<int>(std::strtol(text.c_str(), nullptr, 10));
}

// As a launcher says. srun --mpi=pmix names the rank alone, and Slurm the number.
int launched_size() {
  for (const Launcher& launcher : kLaunchers)
    if (const auto size = number_in(launcher.size); size && number_in(launcher.rank)) return *size;
  return number_in("PMIX_RANK") ? number_in("SLURM_NTASKS").value_or(2) : 1;
}

// A wait of microseconds costs nothing but them; a long one leaves the processor to others.
class Patience {
 public:
  void wait() {
    throw_if_cancelled();
    if (++times_ < kSpins) return std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::microseconds(std::min(1000, times_ - kSpins + 20)));
  }

 private:
  static constexpr int kSpins = 500;
  int times_ = 0;
};

class MpiRanks : public Ranks {
 public:
  explicit MpiRanks(const MpiFunctions& functions) : mpi_(functions) {}
  int rank() const override { return mpi_.rank; }
  int size() const override { return mpi_.size; }
  int threads() const override { return mpi_.threads; }

  void post(int to, const void* data, uint64_t bytes, std::shared_ptr<const void> keep) override {
    assert(to != rank());
    in_messages(const_cast<void*>(data), bytes, [&](void* part, int size) {
      void* request = nullptr;
      require(mpi_.send(to, part, size, &request), to);
      posted_.push_back({request, to, keep});
    });
    while (!posted_.empty() && done(posted_.front())) posted_.pop_front();
  }

  void flush() override {
    for (; !posted_.empty(); posted_.pop_front())
      for (Patience patience; !done(posted_.front());) patience.wait();
  }

  void receive(int from, void* data, uint64_t bytes) override {
    assert(from != rank());
    in_messages(data, bytes, [&](void* part, int size) {
      Posted message{nullptr, from, nullptr};
      require(mpi_.receive(from, part, size, &message.request), from);
      for (Patience patience; !done(message);) patience.wait();
    });
  }

  void end_all(int status) override {
    mpi_.abort(status);
    ::_exit(status);
  }
  void end() const {
    if (const char* why = mpi_.end()) log::warning(cat("MPI does not end well: ", why));
  }

 private:
  struct Posted {
    void* request;
    int other;
    std::shared_ptr<const void> keep;
  };

  bool done(const Posted& message) const {
    bool done = false;
    require(mpi_.test(message.request, &done), message.other);
    return done;
  }

  void require(const char* why, int other) const {
    if (why) throw Error(cat("rank ", other, " cannot be reached: ", why), Failure::kUnavailable);
  }

  template <typename Body>
  static void in_messages(void* data, uint64_t bytes, const Body& body) {
    for (uint64_t at = 0; at < bytes; at += kMessageBytes)
      body(static_cast<char*>(data) + at, static_cast<int>(std::min(kMessageBytes, bytes - at)));
  }

  MpiFunctions mpi_;
  std::deque<Posted> posted_;
};

std::unique_ptr<MpiRanks> g_ranks;

}  // namespace

void Ranks::post(int to, const std::string& text) {
  const auto kept = std::make_shared<const std::pair<uint64_t, std::string>>(text.size(), text);
  post(to, &kept->first, sizeof kept->first, kept);
  post(to, kept->second.data(), kept->second.size(), kept);
}

std::string Ranks::receive(int from) {
  uint64_t size = 0;
  receive(from, &size, sizeof size);
  std::string text(size, '\0');
  receive(from, text.data(), size);
  return text;
}

std::string Ranks::from_first(const std::string& text) {
  if (rank() > 0) return receive(0);
  for (int other = 1; other < size(); ++other) post(other, text);
  flush();
  return text;
}

std::vector<std::string> Ranks::from_all(const std::string& text) {
  for (int other = 0; other < size(); ++other)
    if (other != rank()) post(other, text);
  std::vector<std::string> all;
  for (int other = 0; other < size(); ++other) all.push_back(other == rank() ? text : receive(other));
  flush();
  return all;
}

Ranks* ranks() { return g_ranks.get(); }

std::optional<int> launched_rank() {
  for (const Launcher& launcher : kLaunchers)
    if (const auto rank = number_in(launcher.rank)) return rank;
  return number_in("PMIX_RANK");
}

// Beside the library that this code is in.
fs::path mpi_library() {
  Dl_info about = {};
  const bool known = ::dladdr(reinterpret_cast<const void*>(&launched_size), &about) != 0;
  return (known ? fs::path(about.dli_fname).parent_path() : fs::path()) / kLibrary;
}

void join_ranks() {
  const int wanted = launched_size();
  if (wanted <= 1) return;
  const std::string asked = cat("a launcher has started ", wanted, " processes of this run, but ");
  const fs::path file = mpi_library();
  if (!fs::exists(file))
    throw Error(cat(asked, "this build has no MPI (", file.string(),
                    "): build it where CMake finds one (Debian: libopenmpi-dev), or start one process"));
  // Open MPI would take the signals by which crashes are reported.
  ::setenv("OMPI_MCA_opal_signal", "", /*overwrite=*/0);
  void* const library = ::dlopen(file.c_str(), RTLD_NOW | RTLD_GLOBAL);
  auto* const start = library ? reinterpret_cast<StartMpi>(::dlsym(library, kStartMpi)) : nullptr;
  if (!start) throw Error(cat(asked, "its MPI cannot be loaded: ", ::dlerror()), Failure::kUnavailable);
  MpiFunctions functions{};
  if (const char* why = start(&functions)) throw Error(cat(asked, "MPI does not start: ", why), Failure::kUnavailable);
  if (functions.size == 1)
    throw Error(cat(asked, functions.library,
                    ", which this build uses, has found this one alone: take the launcher of "
                    "that MPI"),
                Failure::kPrecondition);
  g_ranks = std::make_unique<MpiRanks>(functions);
  if (functions.rank > 0) return;
  log::info(cat(functions.size, " processes (", functions.library, "), ", functions.threads,
                functions.threads == 1 ? " thread" : " threads", " each"));
  if (functions.idle_processors > 0)
    log::warning(cat("the launcher leaves ", functions.idle_processors,
                     " processors of this machine to nobody: mpirun --bind-to none leaves all to the run"));
}

void leave_ranks() {
  if (g_ranks) g_ranks->end();
  g_ranks.reset();
}

}  // namespace roundhouse
