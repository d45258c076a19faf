// SPDX-License-Identifier: Apache-2.0
// How long the search for each of ggml's blocks takes on one thread, in ns a weight of a 64 x 4096 matrix: prints JSON.
// ROUNDHOUSE_CPU_TARGET chooses the instruction set.
//
//   ggml_search_bench
#include <algorithm>
#include <cmath>
#include <ctime>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>
#include <vector>

#include "kernels/cpu/ggml.h"
#include "plugins/dtypes/ggml/search.h"

namespace roundhouse {
namespace {

constexpr int64_t kRows = 64, kCols = 4096;
constexpr int kRepeats = 5;

// Of the calling thread: what else the machine does does not count.
double seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// The fastest of kRepeats.
double nanoseconds(ggml::BlockType type, const std::vector<float>& weight, const float* importance) {
  std::vector<kernels::GgmlBlock> found(kCols / ggml::facts(type).block_cols);
  double best = HUGE_VAL;
  for (int i = 0; i < kRepeats; ++i) {
    const double start = seconds();
    for (int64_t row = 0; row < kRows; ++row)
      ggml::search_row(type, weight.data() + row * kCols, kCols, importance, found.data());
    best = std::min(best, seconds() - start);
  }
  return best / (kRows * kCols) * 1e9;
}

}  // namespace
}  // namespace roundhouse

int main() {
  using namespace roundhouse;
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> weight(kRows * kCols), importance(kCols);
  for (float& x : weight) x = 0.02f * normal(random);
  for (float& x : importance) x = std::exp(2 * normal(random));
  nlohmann::ordered_json out;
  out["target"] = kernels::ggml_cpu().name;
  for (int i = 0; i < ggml::kBlockTypes; ++i) {
    const auto type = static_cast<ggml::BlockType>(i);
    out[ggml::facts(type).name] = {{"plain", nanoseconds(type, weight, nullptr)},
                                   {"importance", nanoseconds(type, weight, importance.data())}};
  }
  std::cout << out.dump(2) << "\n";
}
