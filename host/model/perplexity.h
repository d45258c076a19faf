// SPDX-License-Identifier: Apache-2.0
// How well a model predicts text.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "host/base/tensor.h"
#include "host/model/architecture.h"
#include "host/model/input_hook.h"

namespace roundhouse {

struct Perplexity {
  double value = 0;    // exp of the mean negative log likelihood of a token
  int64_t tokens = 0;  // scored
  double seconds = 0;
};

// Gets log p of the tokens that follow `first` to `first` + rows - 1 of a sequence: [rows, vocab].
using LogProbsObserver = std::function<void(size_t sequence, int64_t first, int64_t rows, const float* log_p)>;

// Computes in float32 on `device`, "cpu" or "cuda:1". The first token of a sequence is not scored. Blocks are loaded one at a time, each once for all
// sequences whose hidden states fit into a gigabyte together. The result does not depend on the number of threads.
// `progress` is called after each block with the blocks done and those to do. `input_hook` gets the inputs of all linears,
// of several sequences at once, padded on the right; `observer` every position that is scored, sequences in any order.
// A device is not waited for but once for 2^24 log probabilities, while it computes the next ones.
// Throws Error when there is nothing to score.
Perplexity perplexity(const Architecture& architecture, TensorSource& source,
                      const std::vector<std::vector<int32_t>>& sequences,
                      const std::function<void(int64_t done, int64_t total)>& progress = {},
                      const InputHook& input_hook = {}, const LogProbsObserver& observer = {},
                      const std::string& device = "cpu");

}  // namespace roundhouse
