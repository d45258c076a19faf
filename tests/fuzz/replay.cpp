// SPDX-License-Identifier: Apache-2.0
// The main function of a target without libFuzzer: runs it on each of the files, and on those in the folders; after
// --allocations then again with each memory allocation failing in turn, which nothing may leak from.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <new>
#include <vector>

#include "tests/fuzz/fuzz.h"

namespace {

// The target runs on one thread.
int64_t g_until_failure = 0;  // allocations; 0: none fails
int64_t g_living = 0;

void run(const std::string& bytes) {
  try {
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  } catch (const std::bad_alloc&) {  // while the target prepared its input
  }
}

// Returns whether the target keeps its promise.
bool fail_each_allocation(const std::string& bytes) {
  constexpr int64_t kOneByOne = 500;  // then in growing steps
  for (int64_t which = 1;; which += 1 + which / kOneByOne) {
    const int64_t living = g_living;
    g_until_failure = which;
    run(bytes);
    const bool failed = g_until_failure == 0;
    g_until_failure = 0;
    if (g_living > living) {
      std::printf("%lld allocations are lost when number %lld fails\n", static_cast<long long>(g_living - living),
                  static_cast<long long>(which));
      return false;
    }
    if (!failed) return true;
  }
}

}  // namespace

void* operator new(size_t size) {
  if (g_until_failure > 0 && --g_until_failure == 0) throw std::bad_alloc();
  void* const memory = std::malloc(std::max<size_t>(1, size));
  if (!memory) throw std::bad_alloc();
  ++g_living;
  return memory;
}
void operator delete(void* memory) noexcept {
  if (memory) --g_living;
  std::free(memory);
}
void operator delete(void* memory, size_t) noexcept { operator delete(memory); }

int main(int argc, char** argv) {
  std::vector<std::filesystem::path> files;
  const bool allocations = argc > 1 && std::string_view(argv[1]) == "--allocations";
  for (int i = allocations ? 2 : 1; i < argc; ++i) {
    if (!std::filesystem::is_directory(argv[i])) {
      files.emplace_back(argv[i]);
      continue;
    }
    for (const auto& entry : std::filesystem::directory_iterator(argv[i])) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  bool good = !files.empty();
  for (const auto& path : files) {
    std::printf("%s\n", path.c_str());
    std::fflush(stdout);
    std::ifstream file(path, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), {}};
    good = good && file;
    for (int i = 0; i < 2; ++i) run(bytes);  // twice: static objects are there then
    if (allocations) good = fail_each_allocation(bytes) && good;
  }
  return good ? 0 : 1;
}
