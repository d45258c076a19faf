// SPDX-License-Identifier: Apache-2.0
// What gets the results of a run. No libtorch here.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "host/base/tensor.h"
#include "host/export/encoded_layer.h"
#include "host/export/journal.h"
#include "host/tuning/results.h"

namespace roundhouse {

// What a run produces, in checkpoint order: every tensor of the source exactly once, as itself or as a layer.
class QuantizeSink {
 public:
  virtual ~QuantizeSink() = default;
  // These two come from another thread than the rest where a run computes on a device, one at a time; meanwhile the rest
  // goes on, but for pause().
  virtual void layer(const EncodedLayer& layer) = 0;
  virtual void tensor(const std::string& name, const Tensor& tensor) = 0;
  // Called inside a block, once an iteration; on a GPU some at a time.
  virtual void iteration(int64_t block, int64_t iteration, double loss) = 0;
  virtual void block_done(const BlockReport& report) = 0;
  // Asked between two blocks, or two layers that come without blocks: whether pause() shall follow.
  virtual bool wants_pause() { return false; }
  // All that is before has come. `write` adds what a later process needs to go on from here.
  virtual void pause(const std::function<void(RecordWriter& record)>& /*write*/) {}
};

}  // namespace roundhouse
