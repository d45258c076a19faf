// Every instruction set against the scalar kernels of ggml's blocks, bit for bit.
#include <gtest/gtest.h>

#include "tests/kernels/ggml_problem.h"

namespace roundhouse::kernels {
namespace {

void expect_scalar_results(const std::function<float(std::mt19937&, int64_t)>& fill) {
  for (const GgmlCpu* target : ggml_cpu_targets()) {
    int failures = 0;
    for_ggml_problems(fill, [&](const GgmlProblem& problem) {
      if (failures == 5) return;
      const std::string found =
          difference(run_ggml_cpu(*target, problem), run_ggml_cpu(*ggml_cpu_targets().front(), problem));
      if (found.empty()) return;
      ADD_FAILURE() << target->name << ", " << problem.text() << ": " << found;
      ++failures;
    });
  }
}

TEST(GgmlCpu, EveryTargetEqualsScalarOnRandomInput) { expect_scalar_results(gaussian); }

TEST(GgmlCpu, EveryTargetEqualsScalarOnHardInput) { expect_scalar_results(hard); }

}  // namespace
}  // namespace roundhouse::kernels
