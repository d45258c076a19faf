// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/card_estimate.h"

#include <algorithm>
#include <map>

#include "host/base/cpu.h"
#include "host/plan/mix_plan.h"
#include "host/plan/passes.h"
#include "host/tuning/units.h"

namespace roundhouse {
namespace {

// Of an iteration over Llama-3.1-8B's block of bfloat16 on a card of Hopper's kind, counted: what products reach of the
// card's rate, and of its memory's rate what is no product.
constexpr double kProductShare = 2.0 / 3, kMemoryShare = 0.84;
// Bytes that are moved: for each output of a linear and token, norms, activations, rotary, loss and gradients; for each
// weight, forward and step. Products cost an expert's weight by the tokens that meet it, the rest is for every weight of
// the block.
constexpr double kMovedPerOutput = 17, kMovedPerWeight = 20;
// Bytes that live: for each weight, itself twice, its leaf, its gradient, v and the best v; for each output of a linear
// and token, itself, its gradient, and those of the operators behind it.
constexpr double kLivePerTunedWeight = 16, kLivePerWeight = 6, kLivePerOutput = 8;
// While a mix is measured: the weight, its gradient, and that of each sample squared and summed.
constexpr double kLivePerMeasuredWeight = 10;
constexpr double kLeastPerWeight = 2;  // bfloat16
constexpr double kLiveAlways = 1e9;    // libraries, workspaces, and what the allocator keeps

// Operations of bfloat16 products with sums in float32 that a multiprocessor does in a clock: NVIDIA's tables.
double operations_per_clock(const CudaCard& card) {
  if (card.major >= 10) return card.major >= 12 ? 512 : 8192;  // GeForce 50, then Blackwell
  if (card.major == 9) return 4096;                            // Hopper
  return card.minor == 0 ? 2048 : 512;                         // A100; GeForce 30 and 40
}

double weights_of(const LayerPlan& layer) {
  return static_cast<double>(layer.info.out_features) * static_cast<double>(layer.info.in_features);
}

// Bytes of activations, given those that a plan says, where they are left on the card.
uint64_t on_card(const Recipe& recipe, uint64_t planned) {
  const uint64_t bytes = computes_in_bfloat16(recipe.device.kind == DeviceChoice::Kind::kCuda) ? 2 : 4;
  return recipe.memory ? 0 : planned / bytes * 2;  // bfloat16 on a GPU
}

// What lives of the largest block.
struct Blocks {
  struct Part {
    double weights = 0, outputs = 0, live = 0;
  };
  std::map<int64_t, Part> parts;

  void add(const LayerPlan& layer, const Plan& plan, double live_per_weight) {
    Part& block = parts[layer.block];
    block.weights += weights_of(layer);
    block.live += weights_of(layer) * live_per_weight;
    block.outputs += static_cast<double>(layer.info.out_features) * share_met(layer, plan);
  }
  void estimate(CardEstimate& estimate, const Recipe& recipe) const {
    const auto unit = static_cast<double>(unit_samples(recipe.calibration.seqlen) * recipe.calibration.seqlen);
    double live = 0, least = 0;
    for (const auto& [index, block] : parts) {
      live = std::max(live, block.live + block.outputs * unit * kLivePerOutput);
      least = std::max(least, block.weights * kLeastPerWeight);
    }
    estimate.work = static_cast<uint64_t>(kLiveAlways + live);
    estimate.least = static_cast<uint64_t>(least);
  }
};

}  // namespace

CardEstimate estimate_on(const CudaCard& card, const Plan& plan) {
  const Recipe& recipe = plan.recipe;
  const Passes needed = passes(plan);
  Blocks blocks;
  double all_met = 0, tuned_met = 0, tuned_weights = 0, all_outputs = 0, tuned_outputs = 0;  // met: by a token
  for (const LayerPlan& layer : plan.layers) {
    if (layer.block < 0) continue;
    const bool tuned = layer.scheme.weight && is_tuned(layer.scheme.weight->rounding);
    const double share = share_met(layer, plan), outputs = static_cast<double>(layer.info.out_features) * share;
    blocks.add(layer, plan, tuned ? kLivePerTunedWeight : kLivePerWeight);
    all_met += weights_of(layer) * share;
    all_outputs += outputs;
    if (!tuned) continue;
    tuned_weights += weights_of(layer);
    tuned_met += weights_of(layer) * share;
    tuned_outputs += outputs;
  }
  CardEstimate estimate;
  if (!needed.any()) return estimate;
  const auto tokens = static_cast<double>(recipe.calibration.samples * recipe.calibration.seqlen);
  const auto batch = static_cast<double>(recipe.calibration.batch_size * recipe.tuning.gradient_accumulation *
                                         recipe.calibration.seqlen);
  estimate.activations = on_card(recipe, plan.activation_bytes);
  blocks.estimate(estimate, recipe);

  const double rate = card.processors * card.clock * operations_per_clock(card) * kProductShare;
  const double bandwidth = card.bandwidth * kMemoryShare;
  if (rate <= 0 || bandwidth <= 0) return estimate;
  const double forwards = needed.full + needed.quantized + (needed.quantized && needed.ranges);
  const auto iters = static_cast<double>(recipe.tuning.iters);
  const double operations =
      2 * all_met * tokens * forwards + (2 * all_met + 4 * tuned_met) * batch * (tuned_weights > 0 ? iters : 0);
  const double moved = kMovedPerOutput / 3 * all_outputs * tokens * forwards +
                       (kMovedPerOutput * tuned_outputs * batch + kMovedPerWeight * tuned_weights) * iters;
  estimate.seconds = operations / rate + moved / bandwidth;
  return estimate;
}

CardEstimate estimate_measuring(const Plan& plan) {
  Blocks blocks;
  double head = 0;  // or the embedding, which is as large
  for (const LayerPlan& layer : plan.layers)
    if (layer.block < 0)
      head = std::max(head, weights_of(layer) * kLeastPerWeight);
    else
      blocks.add(layer, plan, kLivePerMeasuredWeight);
  CardEstimate estimate;
  estimate.activations = on_card(plan.recipe, plan.mix->activation_bytes);
  blocks.estimate(estimate, plan.recipe);
  estimate.work += static_cast<uint64_t>(head);
  return estimate;
}

}  // namespace roundhouse
