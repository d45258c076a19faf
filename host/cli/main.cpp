// SPDX-License-Identifier: Apache-2.0
// The executable: prepares the environment, then loads and runs the program, which is
// ../lib/roundhouse/libroundhouse.so.
#include <dlfcn.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <string>
#include <system_error>

#define RAISE_LIMIT ". Raise the limit of this program's memory (ulimit -v, a container's)"

namespace {
void (*g_report_end)(const char*) = nullptr;

[[noreturn]] void end(const char* function, int status) {
  if (g_report_end) g_report_end(function);
  for (;;) syscall(SYS_exit_group, status);
}
}  // namespace

// The executable exports these two, so that plugins find them before libc's: the program names the plugin that calls one.
extern "C" {
__attribute__((visibility("default"))) void _exit(int status) { end("_exit()", status); }
__attribute__((visibility("default"))) void _Exit(int status) noexcept { end("_Exit()", status); }
}

int main(int argc, char** argv) {
  const std::filesystem::path executable = std::filesystem::read_symlink("/proc/self/exe");
  std::error_code gone;
  if (const std::filesystem::path here = std::filesystem::current_path(gone);
      here.empty() || gone) {  // the libraries below need one, and say it badly
    std::fputs("error: the current folder is gone. Change to one that is there, and run again.\n", stderr);
    return 1;
  }
  // glibc reads this when a program starts, so it starts again: memory in pages of 2 MiB, which the kernel hands out in a
  // quarter less of the time of a run without tuning, whose weights come and go.
  if (!std::getenv("GLIBC_TUNABLES")) {
    setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1", /*overwrite=*/0);
    execv(executable.c_str(), argv);
  }
  // libgomp reads this when it is loaded, with libtorch: how often a thread looks for work before it sleeps, here for
  // some 0.1 ms. docs/performance.md has what other values cost, on a quiet and on a busy machine.
  if (!std::getenv("OMP_WAIT_POLICY")) setenv("GOMP_SPINCOUNT", "3000", /*overwrite=*/0);
  // Without this cuBLAS may sum in another order each time.
  setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
  const auto prefix = executable.parent_path().parent_path();
  const std::string library = prefix / "lib/roundhouse/libroundhouse.so";
  // The initializers of libtorch throw where memory is used up.
  const std::terminate_handler usual = std::set_terminate([] {
    std::fputs("error: the program cannot be loaded: no memory is left" RAISE_LIMIT "\n", stderr);
    for (;;) syscall(SYS_exit_group, 1);
  });
  void* const program = dlopen(library.c_str(), RTLD_NOW | RTLD_GLOBAL);
  std::set_terminate(usual);
  auto* const run = program ? reinterpret_cast<int (*)(int, char**)>(dlsym(program, "roundhouse_main")) : nullptr;
  if (!run) {
    const std::string why = dlerror();
    const bool memory = why.find("failed to map segment") != std::string::npos;
    const bool torch = why.find("libtorch") != std::string::npos || why.find("libc10") != std::string::npos;
    std::fprintf(stderr, "error: cannot load %s: %s%s%s\n", library.c_str(), why.c_str(),
                 memory  ? RAISE_LIMIT
                 : torch ? ". libtorch comes with `pip install torch==" TORCH_VERSION
                           "`; its lib folder's files belong in "
                         : "",
                 torch && !memory ? (prefix / "lib/roundhouse/torch").c_str() : "");
    return 1;
  }
  g_report_end = reinterpret_cast<void (*)(const char*)>(dlsym(program, "roundhouse_report_end"));
  return run(argc, argv);
}
