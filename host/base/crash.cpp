// SPDX-License-Identifier: Apache-2.0
#include "host/base/crash.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "host/base/error.h"

namespace roundhouse {
namespace {

constexpr std::array kSignals{SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
constexpr size_t kNotes = 32, kNoteBytes = 1024;

struct Note {
  std::atomic<bool> used{false};
  std::atomic<bool> shown{false};
  char text[kNoteBytes] = {};
};

// initial-exec: a signal handler may read it without memory being allocated for it first.
__attribute__((tls_model("initial-exec"))) thread_local const PluginCall* volatile t_call = nullptr;
std::array<Note, kNotes> g_notes;
// Read by each call of a thread, written by those that are watched: they do not wait for ever while others come and go.
pthread_rwlock_t g_calls = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
std::atomic<pid_t> g_installed{0};  // by which process: a child that a plugin forks may end as it likes
std::atomic_flag g_reporting = ATOMIC_FLAG_INIT;

// Only what a signal handler may do: a line in a buffer of its own, and write().
class Line {
 public:
  Line& operator<<(std::string_view text) {
    const size_t n = std::min(text.size(), sizeof text_ - size_);
    std::memcpy(text_ + size_, text.data(), n);
    size_ += n;
    return *this;
  }
  ~Line() {
    for (size_t done = 0; done < size_;) {
      const ssize_t n = ::write(STDERR_FILENO, text_ + done, size_ - done);
      if (n <= 0) return;
      done += static_cast<size_t>(n);
    }
  }

 private:
  char text_[8192];
  size_t size_ = 0;
};

std::string_view signal_text(int signal) {
  switch (signal) {
    case SIGSEGV:
      return "crashed with SIGSEGV (memory that is not its own)";
    case SIGBUS:
      return "crashed with SIGBUS (memory without a file behind it: was one cut off?)";
    case SIGFPE:
      return "crashed with SIGFPE (a division by zero)";
    case SIGILL:
      return "crashed with SIGILL (an instruction that this processor lacks)";
    default:
      return "crashed with SIGABRT (abort, or an exception that nothing caught)";
  }
}

void report(std::string_view what, const PluginCall* call) {
  Line() << "\n";  // progress may have left the cursor in a line
  Line line;
  line << "error: ";
  if (call) {
    line << call->plugin() << " " << what << " in " << call->function();
    if (!call->where().empty()) line << " of " << call->where();
  } else {
    line << "the program " << what << ", outside every plugin";
  }
  line << "\n";
  for (const Note& note : g_notes)
    if (note.shown.load(std::memory_order_acquire)) line << "  " << note.text << "\n";
}

void on_signal(int signal) {
  if (g_reporting.test_and_set()) {
    for (;;) ::pause();  // another thread reports, and ends the process
  }
  report(signal_text(signal), t_call);
  ::signal(signal, SIG_DFL);
  ::raise(signal);  // delivered when the handler returns
}

// A stack for the handler, so that a plugin's endless recursion can be reported too.
class HandlerStack {
 public:
  HandlerStack() {
    void* memory = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return;
    stack_.ss_sp = memory;
    stack_.ss_size = kBytes;
    ::sigaltstack(&stack_, nullptr);
  }
  ~HandlerStack() {
    if (!stack_.ss_sp) return;
    stack_t none{};
    none.ss_flags = SS_DISABLE;
    ::sigaltstack(&none, nullptr);
    ::munmap(stack_.ss_sp, kBytes);
  }
  HandlerStack(const HandlerStack&) = delete;
  HandlerStack& operator=(const HandlerStack&) = delete;

 private:
  static constexpr size_t kBytes = 1 << 16;
  stack_t stack_{};
};

}  // namespace

void report_crashes() {
  if (g_installed.exchange(::getpid()) != 0) return;
  struct sigaction action = {};
  action.sa_handler = &on_signal;
  action.sa_flags = SA_ONSTACK;
  ::sigemptyset(&action.sa_mask);
  for (const int signal : kSignals) ::sigaction(signal, &action, nullptr);
  // These run on the thread that called exit() or quick_exit().
  std::atexit([] { report_end("exit()"); });
  std::at_quick_exit([] { report_end("quick_exit()"); });
}

void report_end(std::string_view function) {
  if (!t_call || g_installed != ::getpid() || g_reporting.test_and_set()) return;
  char what[64] = "called ";
  function.copy(what + std::strlen(what), sizeof what - sizeof "called ");
  report(what, t_call);
  ::syscall(SYS_exit_group, EXIT_FAILURE);
}

PluginCall::PluginCall(std::string_view plugin, std::string_view function, std::string_view where,
                       Beside beside) noexcept
    : plugin_(plugin),
      function_(function),
      where_(where),
      outer_(t_call),
      alone_(outer_ ? outer_->alone_ : beside == Beside::kNone),
      floats_(FloatEnvironment::now()) {
  if (!outer_ && beside != Beside::kItsOwn) {
    alone_ ? ::pthread_rwlock_wrlock(&g_calls) : ::pthread_rwlock_rdlock(&g_calls);
    locked_ = true;
  }
  if (g_installed) thread_local HandlerStack stack;
  t_call = this;
}

PluginCall::~PluginCall() {
  t_call = outer_;
  if (locked_) ::pthread_rwlock_unlock(&g_calls);
  if (FloatEnvironment::now() == floats_) return;
  floats_.restore();
  try {
    warn_of({"floating-point environment",
             "changes the floating-point environment (rounding, denormals or traps), which is put back"},
            plugin_, function_, where_);
  } catch (const std::exception&) {  // no memory for the warning
  }
}

WatchedCall::WatchedCall(std::string_view plugin, std::string_view function, std::string_view where)
    : WatchedCall(plugin, function, where, is_due(plugin, function)) {}

WatchedCall::WatchedCall(std::string_view plugin, std::string_view function, std::string_view where, bool due)
    : PluginCall(plugin, function, where, due ? Beside::kNone : Beside::kAny) {
  if (due && is_alone()) before_.emplace();  // within one that is not watched, another thread's may be under way
}

bool WatchedCall::is_due(std::string_view plugin, std::string_view function) {
  static std::mutex mutex;
  static auto& calls = *new std::map<std::string, uint64_t>;  // also for what is destroyed at the end
  const std::lock_guard lock(mutex);
  const uint64_t earlier = calls[cat(plugin, "\n", function)]++;
  return earlier < 16 || earlier % 16 == 0;
}

WatchedCall::~WatchedCall() {
  if (!before_) return;
  try {
    for (const Leftover& leftover : before_->restore()) warn_of(leftover, plugin(), function(), where());
  } catch (const std::exception&) {  // as above
  }
}

const PluginCall* PluginCall::current() noexcept { return t_call; }

CrashNote::~CrashNote() {
  if (slot_ < 0) return;
  g_notes[slot_].shown = false;
  g_notes[slot_].used = false;
}

void CrashNote::set(const std::string& text) {
  for (size_t i = 0; slot_ < 0 && i < kNotes; ++i)
    if (!g_notes[i].used.exchange(true)) slot_ = static_cast<int>(i);
  if (slot_ < 0) return;
  Note& note = g_notes[slot_];
  note.shown = false;
  note.text[text.copy(note.text, kNoteBytes - 1)] = '\0';
  note.shown.store(true, std::memory_order_release);
}

}  // namespace roundhouse
