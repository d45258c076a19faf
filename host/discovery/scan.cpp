// SPDX-License-Identifier: Apache-2.0
#include "host/discovery/scan.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "host/base/error.h"
#include "host/discovery/library.h"

namespace roundhouse {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr int kReportDescriptor = 3;
// From the start of the process to its first line: the program itself may be slow to load from a cold disk.
constexpr std::chrono::seconds kStartLimit{60};
// Set for the child. A program that forgets to call scan_main would otherwise start itself without end.
constexpr const char* kScanVariable = "ROUNDHOUSE_SCAN";

void report(const json& line) {
  const std::string text = line.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
  for (size_t done = 0; done < text.size();) {
    const ssize_t n = ::write(kReportDescriptor, text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) _exit(EXIT_FAILURE);  // nobody listens any more
    done += static_cast<size_t>(n);
  }
}

// A started child in a process group of its own; killed and waited for at the end of its life.
class Child {
 public:
  explicit Child(const std::filesystem::path& plugin) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) throw Error(cat("cannot scan plugins: ", std::strerror(errno)));
    read_end_ = ends[0];
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, ends[1], kReportDescriptor);
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);

    std::string variable = cat(kScanVariable, "=1");
    std::vector<char*> environment{variable.data()};
    for (char** e = environ; *e; ++e) environment.push_back(*e);
    environment.push_back(nullptr);
    std::string program = "/proc/self/exe", argument = kScanArgument, file = plugin.string();
    std::array<char*, 4> arguments{program.data(), argument.data(), file.data(), nullptr};
    const int code = ::posix_spawn(&pid_, program.c_str(), &files, &attributes, arguments.data(), environment.data());
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&files);
    ::close(ends[1]);
    if (code != 0) {
      ::close(read_end_);
      throw Error(cat("cannot start a process to scan plugins: ", std::strerror(code)));
    }
  }
  ~Child() {
    if (!status_) {
      ::kill(-pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    ::close(read_end_);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  // The wait status once the child has ended by itself.
  std::optional<int> ended() {
    int status;
    if (!status_ && ::waitpid(pid_, &status, WNOHANG) == pid_) status_ = status;
    return status_;
  }

  // Appends what arrives within a few milliseconds.
  void read(std::string& text) {
    pollfd waiting{open_ ? read_end_ : -1, POLLIN, 0};
    if (::poll(&waiting, 1, 5) <= 0) return;
    std::array<char, 4096> buffer;
    const ssize_t n = ::read(read_end_, buffer.data(), buffer.size());
    if (n > 0) text.append(buffer.data(), static_cast<size_t>(n));
    if (n == 0) open_ = false;
  }
  bool open() const { return open_; }

 private:
  pid_t pid_ = 0;
  int read_end_ = -1;
  bool open_ = true;
  std::optional<int> status_;
};

std::string end_text(int status) {
  if (WIFEXITED(status)) return cat("exited with status ", WEXITSTATUS(status));
  const char* name = sigabbrev_np(WTERMSIG(status));
  return name ? cat("SIG", name) : cat("signal ", WTERMSIG(status));
}

// What a child has written so far.
struct Report {
  std::string stage;
  std::optional<PluginRecord> record;
  std::optional<std::string> reason;

  Report(const std::string& text, const std::filesystem::path& plugin) {
    for (size_t begin = 0, end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
      try {
        const json line = json::parse(text.substr(begin, end - begin));
        if (line.contains("stage")) line["stage"].get_to(stage);
        if (line.contains("record")) record = plugin_record_from_json(line["record"], plugin);
        if (line.contains("reason")) reason = line["reason"].get<std::string>();
      } catch (const json::exception&) {
        // Not from us: a plugin may write to any descriptor.
      }
    }
  }
  bool complete() const { return record || reason; }
};

}  // namespace

void scan_main(const char* plugin) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const rlimit no_core{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  try {
    const PluginLibrary library(plugin, [](const char* name) { report({{"stage", name}}); });
    report({{"record", to_json(library.record())}});
  } catch (const std::exception& e) {
    report({{"reason", e.what()}});
  }
  _exit(EXIT_SUCCESS);
}

ScanResult scan_plugin(const std::filesystem::path& plugin, std::chrono::milliseconds time_limit) {
  if (std::getenv(kScanVariable))
    throw Error(cat("this program started itself to scan ", plugin.string(), ", but its main does not call scan_main"));
  Child child(plugin);
  std::string text;
  Report report(text, plugin);
  std::optional<int> status;
  auto deadline = Clock::now() + kStartLimit;
  while (!report.complete() && !status && Clock::now() < deadline) {
    status = child.ended();  // asked first, so that what it wrote before its end is read below
    do child.read(text);
    while (status && child.open() && Clock::now() < deadline);
    const bool started = !report.stage.empty();
    report = Report(text, plugin);
    if (!started && !report.stage.empty()) deadline = Clock::now() + time_limit;
  }

  if (report.record) return {*report.record, true};
  if (report.reason) return {blocked(plugin, *report.reason), report.stage != stage::kLoad};
  if (report.stage.empty())
    throw Error(cat("cannot scan ", plugin.string(), ": the process for it ", status ? end_text(*status) : "hung",
                    " before it began. Does this program's main call scan_main?"));
  if (status) return {blocked(plugin, cat(end_text(*status), " in ", report.stage)), true};
  const double seconds = std::chrono::duration<double>(time_limit).count();
  return {blocked(plugin, cat("no answer after ", seconds, " s in ", report.stage, " (--no-cache asks again)")), true};
}

}  // namespace roundhouse
