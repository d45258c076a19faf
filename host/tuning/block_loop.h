// SPDX-License-Identifier: Apache-2.0
// The tuning of one block: sign descent on the tunables of its layers against its full-precision output.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <memory>
#include <vector>

#include "host/tuning/hidden_states.h"
#include "host/tuning/layer_quantizer.h"
#include "host/tuning/loss.h"
#include "host/tuning/sampler.h"

namespace roundhouse {

struct BlockLoop {
  // [samples, seq, state_size] in the compute type: what the block will really see, and what it should give.
  const HiddenStates& inputs;
  const HiddenStates& targets;
  at::Tensor mask;                                              // [samples, seq] u8 on the CPU; 0: position not scored
  std::function<at::Tensor(const at::Tensor& hidden)> forward;  // reads the layers' leaves
  std::vector<std::unique_ptr<LayerQuantizer>>& layers;
  PythonRandom& random;
  std::function<void(int64_t iteration, double loss)> progress;
  // For a GPU: the host gives it its work without waiting for results. progress is called some iterations later.
  bool ahead = false;
  bool drop_outliers = false;  // of each unit's differences, kElementsPerOutlier
  int64_t compared = 0;        // so many features of the targets, the first, which are all that `forward` gives; 0: all
  // In place of masked_squared_error(); its sum is of a value for each position.
  std::function<MaskedLoss(const at::Tensor& prediction, const at::Tensor& target, const at::Tensor& mask, double scale,
                           int64_t iteration)>
      loss = {};
  // Called when some MiB of the layers' weights were read, which are not read again soon.
  std::function<void()> let_go_of_weights = {};
  DeviceStatus* status = nullptr;  // read where the losses are; not owned
};

struct BlockLoss {
  // Mean squared error over the unmasked positions of an iteration's batch, or the mean of another loss; best: of an epoch's where that is compared.
  double first = 0, best = 0;
  int64_t best_iteration = 0;
};

// After Cheng et al., "Optimize Weight Rounding via Signed Gradient Descent", arXiv 2309.05516: per iteration one batch of
// batch_size x gradient_accumulation samples, unit by unit (units.h), the gradient of the masked mean squared error, a step
// along its sign of size lr * (1 - iteration / iters), or lr * (1 + cos(pi * iteration / iters)) / 2. The tunables of the
// iteration with the least loss of its batch stay, or with the least mean over an epoch's iterations up to it, and the
// leaves hold their weights. Throws Error when the loss is not finite.
BlockLoss run_block_loop(const BlockLoop& loop, const Tuning& tuning, int64_t batch_size);

}  // namespace roundhouse
