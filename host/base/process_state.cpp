// SPDX-License-Identifier: Apache-2.0
#include "host/base/process_state.h"

#include <dirent.h>
#include <fcntl.h>
#include <locale.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cfenv>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <set>
#include <system_error>

#include "host/base/cancel.h"
#include "host/base/error.h"
#include "host/base/log.h"

namespace roundhouse {
namespace {

std::atomic<uint64_t> g_descriptor_changes{0};
std::atomic<int> g_threads_with_own{0};

std::string current_folder() {
  std::error_code code;
  return std::filesystem::current_path(code).string();  // empty: it is gone
}

// umask() alone tells it by setting another one, which files of other threads would get meanwhile. Zero: not known.
mode_t current_umask() {
  const int fd = ::open("/proc/self/status", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  char text[512];
  const ssize_t size = ::read(fd, text, sizeof text);
  ::close(fd);
  constexpr std::string_view kKey = "\nUmask:\t";
  const std::string_view status(text, static_cast<size_t>(std::max<ssize_t>(size, 0)));
  const size_t at = status.find(kKey);
  mode_t mask = 0;
  if (at != std::string_view::npos)
    std::from_chars(status.data() + at + kKey.size(), status.data() + status.size(), mask, 8);
  return mask;
}

struct sigaction action_of(int signal) {
  struct sigaction action = {};
  ::sigaction(signal, nullptr, &action);
  return action;
}

std::string octal(mode_t mask) {
  char text[16];
  return {text, std::to_chars(text, text + sizeof text, mask, 8).ptr};
}

}  // namespace

FloatEnvironment FloatEnvironment::now() noexcept {
  FloatEnvironment now;
#if defined(__x86_64__)
  constexpr uint32_t kStickyFlags = 0x3f;
  uint32_t mxcsr;
  __asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
  now.control_ = mxcsr & ~kStickyFlags;
  __asm__ volatile("fnstcw %0" : "=m"(now.x87_));
#elif defined(__aarch64__)
  __asm__ volatile("mrs %0, fpcr" : "=r"(now.control_));
#else
  now.control_ = static_cast<uint64_t>(std::fegetround());
#endif
  return now;
}

void FloatEnvironment::restore() const noexcept {
#if defined(__x86_64__)
  const auto mxcsr = static_cast<uint32_t>(control_);
  __asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
  __asm__ volatile("fldcw %0" : : "m"(x87_));
#elif defined(__aarch64__)
  __asm__ volatile("msr fpcr, %0" : : "r"(control_));
#else
  std::fesetround(static_cast<int>(control_));
#endif
}

ProcessState::ProcessState()
    : c_locale_(std::setlocale(LC_ALL, nullptr)),
      thread_locale_(::uselocale(nullptr)),
      umask_(current_umask()),
      folder_(current_folder()),
      handlers_(),
      changes_(g_descriptor_changes),
      descriptors_(descriptors()) {
  for (int signal = 1; signal <= kSignals; ++signal) handlers_[signal] = action_of(signal);
}

std::vector<ProcessState::Descriptor> ProcessState::descriptors() {
  std::vector<Descriptor> all;
  DIR* const folder = ::opendir("/proc/self/fd");
  if (!folder) return all;
  while (const dirent* const entry = ::readdir(folder)) {
    Descriptor d{};
    const char* const end = entry->d_name + std::strlen(entry->d_name);
    if (std::from_chars(entry->d_name, end, d.number).ec != std::errc() || d.number == ::dirfd(folder)) continue;
    struct stat info = {};
    if (::fstat(d.number, &info) != 0) continue;
    d.mode = info.st_mode;
    d.device = info.st_dev;
    d.inode = info.st_ino;
    all.push_back(d);
  }
  ::closedir(folder);
  return all;
}

std::vector<Leftover> ProcessState::restore() const {
  std::vector<Leftover> left;
  if (const std::string now = std::setlocale(LC_ALL, nullptr);
      now != c_locale_ || std::locale() != locale_ || ::uselocale(nullptr) != thread_locale_) {
    left.push_back({"locale", "changes the locale, which is put back"});
    std::locale::global(locale_);
    std::setlocale(LC_ALL, c_locale_.c_str());
    ::uselocale(thread_locale_);
  }
  if (const mode_t now = current_umask(); now != umask_) {
    left.push_back({"umask", cat("changes the umask from ", octal(umask_), " to ", octal(now), ", which is put back")});
    ::umask(umask_);
  }
  if (const std::string now = current_folder(); now != folder_ && !folder_.empty()) {
    const bool back = ::chdir(folder_.c_str()) == 0;
    left.push_back({"folder", cat("changes the current folder to ", now.empty() ? "one that is gone" : now,
                                  back ? ", which is put back" : "")});
  }
  for (int signal = 1; signal <= kSignals; ++signal) {
    if (action_of(signal).sa_handler == handlers_[signal].sa_handler) continue;
    // The first Ctrl-C or SIGTERM puts the default of both back.
    if ((signal == SIGINT || signal == SIGTERM) && *cancellation_flag()) continue;
    left.push_back({"handler", cat("changes the handler of SIG", ::sigabbrev_np(signal), ", which is put back")});
    ::sigaction(signal, &handlers_[signal], nullptr);
  }

  const std::vector<Descriptor> now = descriptors();
  const bool by_host = g_threads_with_own > 0 || g_descriptor_changes != changes_;  // after the list, as at the start
  const auto find = [](const std::vector<Descriptor>& all, int number) {
    return std::find_if(all.begin(), all.end(), [&](const Descriptor& d) { return d.number == number; });
  };
  for (const Descriptor& d : descriptors_) {
    if (by_host && d.number > STDERR_FILENO) continue;
    const auto same = find(now, d.number);
    if (same == now.end() || same->device != d.device || same->inode != d.inode)
      left.push_back({"descriptor", cat(same == now.end() ? "closes" : "replaces", " descriptor ", d.number,
                                        ", which is not its own; what the program writes there is lost")});
  }
  for (const Descriptor& d : now) {
    if (by_host || !(S_ISREG(d.mode) || S_ISDIR(d.mode)) || find(descriptors_, d.number) != descriptors_.end())
      continue;
    std::error_code code;
    left.push_back(
        {"open file",
         cat("leaves ", std::filesystem::read_symlink(cat("/proc/self/fd/", d.number), code).string(), " open")});
  }
  return left;
}

void descriptors_changed() noexcept { ++g_descriptor_changes; }

OwnDescriptors::OwnDescriptors() noexcept { ++g_threads_with_own; }

OwnDescriptors::~OwnDescriptors() {
  descriptors_changed();
  --g_threads_with_own;
}

void warn_of(const Leftover& leftover, std::string_view plugin, std::string_view function, std::string_view where) {
  static std::mutex mutex;
  static auto& told = *new std::set<std::string>;  // also for what is destroyed at the end
  {
    const std::lock_guard lock(mutex);
    if (!told.insert(cat(plugin, "\n", leftover.kind)).second) return;
  }
  log::warning(cat(plugin, " ", leftover.text, ", in ", function, where.empty() ? "" : " of ", where));
}

}  // namespace roundhouse
