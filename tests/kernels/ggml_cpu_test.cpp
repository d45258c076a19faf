// SPDX-License-Identifier: Apache-2.0
// Every instruction set against the scalar kernels of ggml's blocks, bit for bit.
#include <gtest/gtest.h>

#include "tests/kernels/ggml_problem.h"

namespace roundhouse::kernels {
namespace {

Results run_and_search(const GgmlCpu& cpu, const GgmlProblem& problem) {
  Results out = run_ggml_cpu(cpu, problem);
  const bool searches = !problem.layer.reference && problem.v.empty() && problem.layer.weight == Element::kF32;
  if (searches) out.merge(search_ggml_cpu(cpu, problem));
  return out;
}

void expect_scalar_results(const std::function<float(std::mt19937&, int64_t)>& fill) {
  for (const GgmlCpu* target : ggml_cpu_targets()) {
    int failures = 0;
    for_ggml_problems(fill, [&](const GgmlProblem& problem) {
      if (failures == 5) return;
      const std::string found =
          difference(run_and_search(*target, problem), run_and_search(*ggml_cpu_targets().front(), problem));
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
