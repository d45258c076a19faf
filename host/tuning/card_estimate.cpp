// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/card_estimate.h"

#include <algorithm>
#include <map>

#include "host/base/cpu.h"
#include "host/plan/passes.h"
#include "host/tuning/units.h"

namespace roundhouse {
namespace {

// Of an iteration over Llama-3.1-8B's block of bfloat16 on a card of Hopper's kind, counted: what products reach of the
// card's rate, and of its memory's rate what is no product.
constexpr double kProductShare = 2.0 / 3, kMemoryShare = 0.84;
// Bytes that are moved: for each output of a linear and token, norms, activations, rotary, loss and gradients; for each
// weight, forward, step and the best tunables.
constexpr double kMovedPerOutput = 32, kMovedPerWeight = 32;
// Bytes that live: for each weight, itself twice, its leaf, its gradient, v and the best v; for each output of a linear
// and token, itself, its gradient, and those of the operators behind it.
constexpr double kLivePerTunedWeight = 16, kLivePerWeight = 6, kLivePerOutput = 8;
constexpr double kLiveAlways = 1e9;  // libraries, workspaces, and what the allocator keeps

// Operations of bfloat16 products with sums in float32 that a multiprocessor does in a clock: NVIDIA's tables.
double operations_per_clock(const CudaCard& card) {
  if (card.major >= 10) return card.major >= 12 ? 512 : 8192;  // GeForce 50, then Blackwell
  if (card.major == 9) return 4096;                            // Hopper
  return card.minor == 0 ? 2048 : 512;                         // A100; GeForce 30 and 40
}

}  // namespace

CardEstimate estimate_on(const CudaCard& card, const Plan& plan) {
  const Recipe& recipe = plan.recipe;
  const Passes needed = passes(plan);
  struct Part {
    double weights = 0, outputs = 0, live = 0;
  };
  std::map<int64_t, Part> blocks;
  double all_weights = 0, tuned_weights = 0, all_outputs = 0, tuned_outputs = 0;  // weights: those that a token meets
  for (const LayerPlan& layer : plan.layers) {
    if (layer.block < 0) continue;
    const bool tuned = layer.scheme.weight && is_tuned(layer.scheme.weight->rounding);
    const double met = layer.info.stack && plan.experts > 0
                           ? static_cast<double>(plan.experts_used) / static_cast<double>(plan.experts)
                           : 1;
    const auto outputs = static_cast<double>(layer.info.out_features);
    const double weights = outputs * static_cast<double>(layer.info.in_features);
    Part& block = blocks[layer.block];
    block.live += weights * (tuned ? kLivePerTunedWeight : kLivePerWeight);
    block.outputs += outputs * met;
    all_weights += weights * met;
    all_outputs += outputs * met;
    if (!tuned) continue;
    tuned_weights += weights * met;
    tuned_outputs += outputs * met;
  }
  CardEstimate estimate;
  if (!needed.any()) return estimate;
  const auto tokens = static_cast<double>(recipe.calibration.samples * recipe.calibration.seqlen);
  const auto batch = static_cast<double>(recipe.calibration.batch_size * recipe.tuning.gradient_accumulation *
                                         recipe.calibration.seqlen);
  const auto unit = static_cast<double>(unit_samples(recipe.calibration.seqlen) * recipe.calibration.seqlen);
  const uint64_t bytes = computes_in_bfloat16(recipe.device.kind == DeviceChoice::Kind::kCuda) ? 2 : 4;
  if (!recipe.memory) estimate.activations = plan.activation_bytes / bytes * 2;  // bfloat16 on a GPU
  double live = 0;
  for (const auto& [index, block] : blocks) live = std::max(live, block.live + block.outputs * unit * kLivePerOutput);
  estimate.work = static_cast<uint64_t>(kLiveAlways + live);

  const double rate = card.processors * card.clock * operations_per_clock(card) * kProductShare;
  const double bandwidth = card.bandwidth * kMemoryShare;
  if (rate <= 0 || bandwidth <= 0) return estimate;
  const double forwards = needed.full + needed.quantized + (needed.quantized && needed.ranges);
  const auto iters = static_cast<double>(recipe.tuning.iters);
  const double operations = 2 * all_weights * tokens * forwards +
                            (2 * all_weights + 4 * tuned_weights) * batch * (tuned_weights > 0 ? iters : 0);
  const double moved = kMovedPerOutput / 3 * all_outputs * tokens * forwards +
                       (kMovedPerOutput * tuned_outputs * batch + kMovedPerWeight * tuned_weights) * iters;
  estimate.seconds = operations / rate + moved / bandwidth;
  return estimate;
}

}  // namespace roundhouse
