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
#include "host/base/environment.h"
#include "host/base/error.h"
#include "host/base/files.h"
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

bool is_off() { return environment_variable("ROUNDHOUSE_RANKS") == "off"; }

// As a launcher says; 0: it does not. Slurm has the number where srun --mpi=pmix tells the rank alone.
int launched_size() {
  if (is_off()) return 1;
  for (const Launcher& launcher : kLaunchers)
    if (const auto size = number_in(launcher.size); size && number_in(launcher.rank)) return *size;
  return number_in("PMIX_RANK") ? number_in("SLURM_NTASKS").value_or(0) : 1;
}

// A wait of microseconds costs nothing but them; a long one leaves the processor to others.
class Patience {
 public:
  explicit Patience(const MpiFunctions& mpi) : mpi_(mpi) {}
  // Throws Error for what another rank has told.
  void wait() {
    throw_if_cancelled();
    int from = 0;
    if (mpi_.rank == 0)
      if (const char* text = mpi_.hear(&from)) throw Error(cat("rank ", from, ": ", text));
    if (++times_ < kSpins) return std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::microseconds(std::min(1000, times_ - kSpins + 20)));
  }

 private:
  static constexpr int kSpins = 500;
  const MpiFunctions& mpi_;
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
      for (Patience patience(mpi_); !done(posted_.front());) patience.wait();
  }

  void receive(int from, void* data, uint64_t bytes) override {
    assert(from != rank());
    in_messages(data, bytes, [&](void* part, int size) {
      Posted message{nullptr, from, nullptr};
      require(mpi_.receive(from, part, size, &message.request), from);
      int received = 0;
      for (Patience patience(mpi_); !done(message, &received);) patience.wait();
      if (received != size)
        throw Error(
            cat("rank ", from, " has sent ", received, " bytes where ", size, " were due: a fault of the program"));
    });
  }

  void tell_failure(const std::string& text) override {
    failure_ = text;
    mpi_.tell(failure_.c_str());
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

  bool done(const Posted& message, int* received = nullptr) const {
    bool done = false;
    int bytes = 0;
    require(mpi_.test(message.request, &done, received ? received : &bytes), message.other);
    return done;
  }

  void require(const char* why, int other) const {
    if (why) throw Error(cat("a message of or to rank ", other, " is lost: ", why), Failure::kUnavailable);
  }

  template <typename Body>
  static void in_messages(void* data, uint64_t bytes, const Body& body) {
    for (uint64_t at = 0; at < bytes; at += kMessageBytes)
      body(static_cast<char*>(data) + at, static_cast<int>(std::min(kMessageBytes, bytes - at)));
  }

  MpiFunctions mpi_;
  std::deque<Posted> posted_;
  std::string failure_;
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
  if (is_off()) return std::nullopt;
  for (const Launcher& launcher : kLaunchers)
    if (const auto rank = number_in(launcher.rank)) return rank;
  return number_in("PMIX_RANK");
}

// Beside the library that this code is in.
fs::path mpi_library() {
  const fs::path here = file_of_code(reinterpret_cast<const void*>(&launched_size));
  return here.empty() ? here : here.parent_path() / kLibrary;
}

void join_ranks() {
  const int wanted = launched_size();
  if (wanted == 1) return;
  const std::string asked =
      cat("a launcher has started ", wanted > 0 ? std::to_string(wanted) : "some", " processes of this run, but ");
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
  if (functions.size == 1 && wanted == 0) {
    functions.end();
    return;
  }
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
    log::warning(cat("mpirun leaves processors of this machine to nobody, ", functions.idle_processors,
                     " of them: --bind-to none leaves all to the run"));
}

void leave_ranks() {
  if (g_ranks) g_ranks->end();
  g_ranks.reset();
}

}  // namespace roundhouse
