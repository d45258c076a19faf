// SPDX-License-Identifier: Apache-2.0
#include "validator/process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>

#include "host/base/error.h"

namespace roundhouse::validator {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using nlohmann::json;

// The child's answer. It outlives the child, whatever ends it.
struct Shared {
  char place[kPlaceBytes];
  std::atomic<uint32_t> done;
  std::array<char, 1 << 14> result;
};

Shared* map(int fd) {
  void* memory = ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) throw Error(cat("cannot map memory: ", std::strerror(errno)));
  return static_cast<Shared*>(memory);
}

std::string end_text(int status) {
  if (WIFEXITED(status)) return cat("the process ended with status ", WEXITSTATUS(status));
  const char* name = sigabbrev_np(WTERMSIG(status));
  return name ? cat("SIG", name) : cat("signal ", WTERMSIG(status));
}

// Plugins may print; that is not the report's business.
void silence() {
  const int null = ::open("/dev/null", O_WRONLY);
  ::dup2(null, STDOUT_FILENO);
  ::dup2(null, STDERR_FILENO);
  ::close(null);
}

}  // namespace

ScratchFolder::ScratchFolder() {
  std::string pattern = (fs::temp_directory_path() / "roundhouse-validate.XXXXXX").string();
  if (!::mkdtemp(pattern.data())) throw Error(cat("cannot make a folder like ", pattern, ": ", std::strerror(errno)));
  path_ = pattern;
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

Result run_in_child(const Test& test, const fs::path& plugin, double time_limit) {
  const int fd = ::memfd_create("roundhouse-validate", 0);  // inherited: no CLOEXEC
  if (fd < 0 || ::ftruncate(fd, sizeof(Shared)) != 0) throw Error(cat("no shared memory: ", std::strerror(errno)));
  Shared* shared = map(fd);
  const ScratchFolder scratch;
  const std::string fd_text = std::to_string(fd), file = plugin.string(), folder = scratch.path().string();
  const std::array<const char*, 6> arguments{"roundhouse-validate", "--child",    fd_text.c_str(),
                                             test.id.c_str(),       file.c_str(), nullptr};
  const auto start = Clock::now();
  const pid_t pid = ::fork();
  if (pid < 0) throw Error(cat("cannot start a process: ", std::strerror(errno)));
  if (pid == 0) {
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::setenv("TMPDIR", folder.c_str(), 1);
    ::setenv("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0", 1);  // or allocated_bytes() would count what it keeps
    if (::chdir(folder.c_str()) == 0) ::execv("/proc/self/exe", const_cast<char* const*>(arguments.data()));
    ::_exit(127);
  }

  int status = 0;
  bool timed_out = false;
  const auto deadline = start + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(time_limit));
  while (::waitpid(pid, &status, WNOHANG) == 0) {
    if (Clock::now() > deadline) {
      timed_out = true;
      ::kill(-pid, SIGKILL);
      ::waitpid(pid, &status, 0);
      break;
    }
    ::usleep(1000);
  }
  ::kill(-pid, SIGKILL);  // what the plugin started

  Result result;
  const std::string where(shared->place, strnlen(shared->place, kPlaceBytes));
  if (shared->done) {
    const json j = json::parse(shared->result.data());
    result = {j["status"], j["where"], j["expected"], j["actual"], 0};
  } else {
    result = {"crashed", where, "the call returns",
              timed_out ? cat("no answer after ", time_limit, " s") : end_text(status), 0};
  }
  result.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  ::munmap(shared, sizeof(Shared));
  ::close(fd);
  return result;
}

void child_main(int fd, const std::string& id, const fs::path& plugin) {
  Shared* shared = map(fd);
  ::close(fd);
  set_place(shared->place);
  const rlimit no_core{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  silence();
  Context context{plugin, fs::current_path(), {}};
  for (const Test& test : all_tests()) {
    if (test.id != id) continue;
    const Result result = run_here(test, context);
    json j{{"status", result.status}, {"expected", result.expected}, {"actual", result.actual}};
    j["where"] = result.where;
    std::string answer = j.dump(-1, ' ', false, json::error_handler_t::replace);
    if (answer.size() >= shared->result.size()) {
      j["where"] = result.where.substr(0, 1000);
      j["expected"] = result.expected.substr(0, 1000);
      j["actual"] = result.actual.substr(0, 1000);
      answer = j.dump(-1, ' ', false, json::error_handler_t::replace);
    }
    std::memcpy(shared->result.data(), answer.c_str(), answer.size() + 1);
    shared->done = 1;
  }
  ::_exit(EXIT_SUCCESS);
}

}  // namespace roundhouse::validator
