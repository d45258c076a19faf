// SPDX-License-Identifier: Apache-2.0
// Runs in which one system call fails: an error that names the place, nothing half under the output's name, and the same
// bytes from the next run. With ROUNDHOUSE_ALL_FAULTS in the environment (`make test-faults`) every call of every format,
// else a few of two.
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <system_error>
#include <vector>

#include "tests/cli/program.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;

const bool kAll = std::getenv("ROUNDHOUSE_ALL_FAULTS") != nullptr;

struct Case {
  const char* format;
  const char* scheme;
};
std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.format << " " << c.scheme; }

// server.cpp, as long as the tests run.
class Server {
 public:
  Server() {
    int to[2], from[2];
    if (::pipe2(to, O_CLOEXEC) != 0 || ::pipe2(from, O_CLOEXEC) != 0)
      throw std::system_error(errno, std::generic_category());
    process_ = ::fork();
    if (process_ == 0) {
      ::setenv("LD_PRELOAD", FAULT_LIBRARY, 1);
      ::dup2(to[0], STDIN_FILENO);
      ::dup2(from[1], STDOUT_FILENO);
      ::execl(FAULT_SERVER, FAULT_SERVER, nullptr);
      ::_exit(127);
    }
    ::close(to[0]);
    ::close(from[1]);
    to_ = ::fdopen(to[1], "w");
    from_ = ::fdopen(from[0], "r");
  }
  ~Server() {
    std::fclose(to_);
    std::fclose(from_);
    ::waitpid(process_, nullptr, 0);
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // `words`: settings of the environment, then arguments.
  Outcome run(const fs::path& output, const std::vector<std::string>& words) {
    std::fputs(output.c_str(), to_);
    for (const std::string& word : words) std::fprintf(to_, "\t%s", word.c_str());
    std::fputc('\n', to_);
    std::fflush(to_);
    int status = 0;
    if (std::fscanf(from_, "%d", &status) != 1) return {-1, "the server has ended"};
    std::ifstream file(output, std::ios::binary);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
            {std::istreambuf_iterator<char>(file), {}}};
  }

 private:
  pid_t process_;
  FILE *to_, *from_;
};

class Fault : public WorkFolder, public testing::WithParamInterface<Case> {
 protected:
  Fault() {
    const fs::path model = copy_model();
    recipe_ =
        write("recipe.yaml", "version: 1\nmodel: model\noutput: out\nscheme: " + std::string(GetParam().scheme) +
                                 "\ntuning: {iters: 0}\nmax_shard_size: 500KB\nformats: [" + GetParam().format + "]\n");
  }
  // `fault`: "write:7:5", as fault.c reads it, for files in `folder`.
  Outcome run_with(const std::string& fault, const fs::path& folder, bool overwrite = false) const {
    static Server server;
    std::vector<std::string> words{"FAULT=" + fault, "FAULT_FOLDER=" + folder.string(), "FAULT_HIT=" + hit_.string(),
                                   "run", recipe_.string()};
    if (overwrite) words.emplace_back("--overwrite");
    return server.run(printed_.path() / "printed", words);
  }
  // The files of the checkpoint; not the records that a run writes beside it, which hold times, nor the digests, without
  // which a run ends with a warning when it cannot read what it wrote.
  std::map<std::string, std::string> checkpoint() const {
    std::map<std::string, std::string> files;
    const fs::path out = work_ / "out";
    if (fs::exists(out))
      for (const auto& entry : fs::directory_iterator(out))
        if (entry.is_regular_file() && entry.path().filename() != "SHA256SUMS")
          files[entry.path().filename()] = read(entry.path());
    return files;
  }

  fs::path recipe_;
  const TempFolder printed_;  // outside of what is counted
  const fs::path hit_ = work_ / "hit";
};

TEST_P(Fault, IsAnErrorThatNamesThePlaceAndLeavesNothingHalf) {
  ASSERT_EQ(run_with("none", work_).code, 0);
  const auto expected = checkpoint();
  ASSERT_GE(expected.size(), 3u);
  int runs = 0;
  for (const std::string kind : {"write", "sync", "rename", "open", "read", "map"}) {
    bool any = false;
    for (int which = 1;; which = kAll ? which + 1 : which * 9) {
      fs::remove_all(work_ / "out");
      fs::remove(hit_);
      const int reason = kind == "write" && which % 2 == 0 ? ENOSPC : EIO;
      const std::string fault = kind + ":" + std::to_string(which) + ":" + std::to_string(reason);
      SCOPED_TRACE(fault);
      const Outcome outcome = run_with(fault, work_);
      if (!fs::exists(hit_)) break;
      any = true;
      ++runs;
      EXPECT_LT(outcome.code, 2) << "a crash:\n" << outcome.output;
      if (outcome.code != 0) {
        EXPECT_NE(outcome.output.find("error: "), std::string::npos) << outcome.output;
        EXPECT_NE(outcome.output.find(work_.string()), std::string::npos) << "no path in:\n" << outcome.output;
        if (reason == EIO) {
          EXPECT_EQ(outcome.output.find("Make room"), std::string::npos) << outcome.output;
        }
      }
      const auto left = checkpoint();
      if (outcome.code == 0 || !left.empty()) {
        EXPECT_TRUE(left == expected) << "half an export:\n" << outcome.output;
      }
      if (kAll && which % 5 != 0) continue;
      const Outcome again = run_with("none", work_, true);
      EXPECT_EQ(again.code, 0) << again.output;
      EXPECT_TRUE(checkpoint() == expected) << "other bytes from the next run";
    }
    EXPECT_TRUE(any) << "no call of the kind " << kind;
  }
  RecordProperty("runs", runs);
}

// Any allocation of the work may fail, in the libraries below too. Some of those end the program then: nlohmann::json's
// destructors and filesystem::directory_iterator, which allocate and may not throw, and glibc's thread-local storage. A few
// crash: libstdc++ 12's filesystem::path frees what it has not made where it is appended to without memory.
TEST_P(Fault, OfAnyAllocationLeavesNothingHalf) {
  const auto with = [&](int64_t which) {
    fs::remove(hit_);
    return run_with("memory:" + std::to_string(which) + ":" + std::to_string(ENOMEM), work_ / "out", true);
  };
  ASSERT_EQ(run_with("none", work_).code, 0);
  const auto expected = checkpoint();
  int64_t most = 1;  // allocations, about: as many as a power of two of which the last one fails
  for (; with(2 * most).code, fs::exists(hit_); most *= 2) ASSERT_LT(most, 1 << 30);
  std::mt19937_64 random(2026);
  const int runs = kAll ? 300 : 12;
  int refused = 0, crashed = 0;
  for (int run = 0; run < runs; ++run) {
    const int64_t which = 1 + static_cast<int64_t>(random() % static_cast<uint64_t>(2 * most));
    SCOPED_TRACE(which);
    fs::remove_all(work_ / "out");
    const Outcome outcome = with(which);
    if (!fs::exists(hit_)) continue;
    const auto says = [&](const char* text) { return outcome.output.find(text) != std::string::npos; };
    const bool of_glibc = says("Fatal glibc error") || says("cannot allocate memory for thread-local data");
    if (outcome.code > 1 && !says("terminate called") && !of_glibc) {
      ++crashed;
      EXPECT_TRUE(says("crashed with")) << outcome.output;
    }
    if (outcome.code != 0) {
      ++refused;
      EXPECT_TRUE(says("error: ") || says("libgomp: Out of memory") || of_glibc) << outcome.output;
    }
    const auto left = checkpoint();
    if (outcome.code == 0 || !left.empty()) {
      EXPECT_TRUE(left == expected) << "half an export:\n" << outcome.output;
    }
    if (run % 5 != 0) continue;
    const Outcome again = run_with("none", work_, true);
    EXPECT_EQ(again.code, 0) << again.output;
    EXPECT_TRUE(checkpoint() == expected) << "other bytes from the next run";
  }
  EXPECT_GT(refused, 0);
  EXPECT_LE(crashed, std::max(1, runs / 20));
}

std::vector<Case> cases() {
  std::vector<Case> cases{{"auto_round", "W4A16"}, {"gguf", "GGUF:Q8_0"}};
  if (kAll)
    cases.insert(cases.end(), {{"auto_gptq", "W4A16"},
                               {"auto_awq", "W4A16"},
                               {"llm_compressor", "W4A16"},
                               {"fp8", "FP8_BLOCK"},
                               {"fake", "MXFP4"}});
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Formats, Fault, testing::ValuesIn(cases()),
                         [](const auto& test) { return std::string(test.param.format); });

}  // namespace
}  // namespace roundhouse
