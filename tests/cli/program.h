// SPDX-License-Identifier: Apache-2.0
// Runs the built program, as a user would.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "tests/temp_folder.h"

namespace roundhouse {

struct Outcome {
  int code;
  std::string output;  // standard output and error
};

inline Outcome run_command(const std::string& command) {
  FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  if (!pipe) return {-1, "popen failed"};
  std::string output;
  char buffer[4096];
  for (size_t n; (n = fread(buffer, 1, sizeof buffer, pipe)) > 0;) output.append(buffer, n);
  const int status = pclose(pipe);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), output};
}

inline const std::string kProgram = ROUNDHOUSE_BUILD "/bin/roundhouse";
inline const std::string kPlugins = ROUNDHOUSE_BUILD "/lib/roundhouse/plugins";
inline const std::string kExamples = ROUNDHOUSE_SOURCE "/configs/examples";

// A folder of the test's own, gone at its end.
class WorkFolder : public testing::Test {
 protected:
  // A quick recipe: tinystories-656k, two iterations, into work_/out.
  std::filesystem::path write_recipe(const std::string& more = "") const {
    return write("recipe.yaml", "version: 1\nmodel: " + kExamples + "/tinystories-656k\noutput: out\nscheme: W4A16\n" +
                                    "calibration: {data: " + kExamples +
                                    "/texts/tinystories-calibration.jsonl, samples: 8, seqlen: 64}\n" +
                                    "tuning: {iters: 2}\n" +
                                    (more.find("formats") == std::string::npos ? "formats: [fake]\n" : "") + more);
  }
  std::filesystem::path write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories((work_ / name).parent_path());
    std::ofstream(work_ / name, std::ios::binary) << text;
    return work_ / name;
  }
  static std::string read(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    EXPECT_TRUE(file) << path << " is not there";
    return {std::istreambuf_iterator<char>(file), {}};
  }
  // A copy of a model's folder that a test may damage.
  std::filesystem::path copy_model() const {
    std::filesystem::copy(kExamples + "/tinystories-656k", work_ / "model");
    return work_ / "model";
  }
  Outcome run(const std::string& arguments) const { return run_command(kProgram + " " + arguments); }

 private:
  const TempFolder folder_;

 protected:
  const std::filesystem::path work_ = folder_.path();
};

}  // namespace roundhouse
