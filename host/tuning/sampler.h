// SPDX-License-Identifier: Apache-2.0
// Which samples an iteration sees.
#pragma once

#include <cassert>
#include <cstdint>
#include <numeric>
#include <vector>

#include "host/base/random.h"

namespace roundhouse {

// Hands out shuffled indices of [0, samples) in batches; a tail shorter than a batch is dropped and the order shuffled
// anew. The generator is shared by all blocks of a run, so that a seed fixes the whole run.
class BatchSampler {
 public:
  // REQUIRES: 0 < batch <= samples.
  BatchSampler(int64_t samples, int64_t batch, PythonRandom& random) : batch_(batch), random_(random), order_(samples) {
    assert(0 < batch && batch <= samples);
    std::iota(order_.begin(), order_.end(), 0);
    random_.shuffle(order_);
  }

  std::vector<int64_t> next() {
    if (next_ + batch_ > static_cast<int64_t>(order_.size())) {
      random_.shuffle(order_);
      next_ = 0;
    }
    const auto begin = order_.begin() + next_;
    next_ += batch_;
    return {begin, begin + batch_};
  }

 private:
  int64_t batch_, next_ = 0;
  PythonRandom& random_;
  std::vector<int64_t> order_;
};

}  // namespace roundhouse
