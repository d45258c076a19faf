// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/block_loop.h"

#include <cmath>
#include <functional>
#include <limits>
#include <numbers>
#include <optional>
#include <utility>

#include "host/base/error.h"
#include "host/model/accelerator.h"
#include "host/tuning/loss.h"
#include "host/tuning/shares.h"
#include "host/tuning/units.h"

namespace roundhouse {
namespace {

// Keeps bfloat16 gradients away from the denormals; the sign does not see it.
constexpr double kLossScale = 1000;

constexpr size_t kWeightsHeld = 64 << 20;  // bytes of mapped weights, until they are let go of

// The samples of every iteration, int64 [iters, batch] on the CPU.
at::Tensor draw_batches(int64_t iters, int64_t samples, int64_t batch, PythonRandom& random) {
  BatchSampler sampler(samples, batch, random);
  at::Tensor batches = at::empty({iters, batch}, at::kLong);
  for (int64_t i = 0; i < iters; ++i) {
    const std::vector<int64_t> drawn = sampler.next();
    std::copy(drawn.begin(), drawn.end(), batches.mutable_data_ptr<int64_t>() + i * batch);
  }
  return batches;
}

// The number of values that each iteration's loss is the mean of.
std::vector<double> scored_elements(const at::Tensor& mask, const at::Tensor& batches, int64_t features) {
  const at::Tensor of_samples = mask.sum(1, /*keepdim=*/false, at::kLong);
  const at::Tensor positions = of_samples.index_select(0, batches.view(-1)).view(batches.sizes()).sum(1);
  std::vector<double> elements;
  for (int64_t i = 0; i < positions.size(0); ++i)
    elements.push_back(std::max(1.0, static_cast<double>(positions.const_data_ptr<int64_t>()[i])) *
                       static_cast<double>(features));
  return elements;
}

// A learning rate at every iteration, f32 [iters], falling to 0: along a line, or half a period of a cosine.
at::Tensor decaying(double rate, int64_t iters, bool cosine, at::Device device) {
  at::Tensor rates = at::empty({iters}, at::kFloat);
  for (int64_t i = 0; i < iters; ++i) {
    const double passed = static_cast<double>(i) / static_cast<double>(iters);
    rates.mutable_data_ptr<float>()[i] =
        static_cast<float>(rate * (cosine ? 0.5 * (1.0 + std::cos(std::numbers::pi * passed)) : 1.0 - passed));
  }
  return rates.to(device);
}

// The losses of the iterations, on the device, compared as means of the last `window`. A host that is ahead reads them
// some iterations late, when it need not wait for them.
class Losses {
 public:
  Losses(int64_t iters, int64_t window, at::Device device, const BlockLoop& loop)
      : window_(std::min(window, iters)),
        values_(at::empty({iters}, at::TensorOptions(at::kDouble).device(device))),
        best_(at::full({}, std::numeric_limits<double>::infinity(), values_.options())),
        host_(at::empty({iters}, host_memory_for(device, at::kDouble))),
        progress_(loop.progress),
        ahead_(loop.ahead),
        status_(loop.status),
        copied_(device) {}

  // Whether with this loss, 0-d f64, the mean is the least so far: 0-d bool on the device.
  at::Tensor add(const at::Tensor& loss) {
    values_.select(0, added_++).copy_(loss);
    if (!ahead_ || added_ % kLag == 0) {
      fetch();
      if (!ahead_) report();
    }
    if (added_ < window_) return at::zeros({}, values_.options().dtype(at::kBool));
    const at::Tensor mean = window_ == 1 ? loss : values_.slice(0, added_ - window_, added_).mean();
    const at::Tensor improved = mean < best_;
    best_ = at::minimum(best_, mean);
    return improved;
  }

  BlockLoss result() {
    fetch();
    report();
    const at::Tensor means = host_.unfold(0, window_, 1).mean(1);
    const double* const begin = means.const_data_ptr<double>();
    const double* const best = std::min_element(begin, begin + means.numel());
    return {host_.const_data_ptr<double>()[0], *best, best - begin + window_ - 1};
  }

 private:
  static constexpr int64_t kLag = 10;

  // Reports what was fetched the last time, and begins to fetch what came since.
  void fetch() {
    report();
    host_.slice(0, fetched_, added_).copy_(values_.slice(0, fetched_, added_), /*non_blocking=*/true);
    if (status_) status_->fetch();
    fetched_ = added_;
    copied_.record();
  }

  void report() {
    if (reported_ < fetched_) {
      copied_.wait();
      if (status_) status_->check();
    }
    for (; reported_ < fetched_; ++reported_) {
      const double loss = host_.const_data_ptr<double>()[reported_];
      if (!std::isfinite(loss))
        throw Error(cat("the loss became ", loss, " at iteration ", reported_,
                        ": the block's output overflows in this arithmetic; check the weights, or lower lr"));
      progress_(reported_, loss);
    }
  }

  int64_t window_;
  at::Tensor values_, best_, host_;
  const std::function<void(int64_t, double)>& progress_;
  bool ahead_;
  DeviceStatus* status_;
  DeviceEvent copied_;
  int64_t added_ = 0, fetched_ = 0, reported_ = 0;
};

// Ends a unit. What all layers keep of gradients' factors stays smaller than the sums of those gradients would be.
void end_unit(LayerQuantizers& layers) {
  WeightGradient::Bytes all;
  for (auto& layer : layers) {
    if (!layer->tunable()) continue;
    layer->gradient().end_unit(std::exchange(layer->leaf().mutable_grad(), {}));
    const WeightGradient::Bytes kept = layer->gradient().kept();
    all.factors += kept.factors;
    all.sum += kept.sum;
  }
  if (all.factors == 0 || all.factors < all.sum) return;
  for (auto& layer : layers) layer->gradient().add_kept();
}

// Sends what an iteration's units have summed of other ranks' layers.
void post_gradients(LayerQuantizers& layers) {
  for (auto& layer : layers)
    if (layer->tunable() && !layer->is_own()) post(layer->owner(), layer->gradient().take());
}

// Of one of this rank's layers, over the ranks; undefined where it is zero.
at::Tensor take_gradient(LayerQuantizer& layer) {
  if (rank_count() == 1 || !layer.tunable()) return layer.gradient().take();
  UnitTree tree;
  for (int rank = 0; rank < rank_count(); ++rank)
    tree.add(rank == this_rank() ? layer.gradient().take() : receive(rank));
  return tree.take();
}

}  // namespace

BlockLoss run_block_loop(const BlockLoop& loop, const Tuning& tuning, int64_t batch_size) {
  const int64_t samples = loop.mask.size(0), seqlen = loop.mask.size(1);
  const int64_t batch = std::min<int64_t>(samples, batch_size * tuning.gradient_accumulation);
  const Range share = own_share(batch, seqlen);
  const at::Device device = loop.inputs.device();
  // All that the device needs to know of the iterations is there before the first.
  const at::Tensor batches = draw_batches(tuning.iters, samples, batch, loop.random);
  const int64_t compared = loop.compared > 0 ? loop.compared : loop.targets.features();
  const std::vector<double> elements = scored_elements(loop.mask, batches, loop.loss ? 1 : compared);
  const at::Tensor mask = loop.mask.to(device), for_mask = batches.to(device),
                   for_inputs = batches.to(loop.inputs.index_device()),
                   for_targets = batches.to(loop.targets.index_device());
  const bool cosine = schedule(tuning) == Tuning::Schedule::kCosine;
  std::vector<LearningRates> rates;  // of every iteration, by layer
  for (auto& layer : loop.layers) {
    const int bits = layer->plan().scheme.weight->bits;
    rates.push_back({decaying(learning_rate(tuning, bits), tuning.iters, cosine, layer->device()),
                     decaying(minmax_learning_rate(tuning, bits), tuning.iters, cosine, layer->device())});
    if (layer->tunable()) layer->leaf().set_requires_grad(true);
  }
  const auto tunable = [](const LayerQuantizer& layer) { return layer.tunable(); };
  write_leaves(loop.layers, std::not_fn(tunable));
  size_t read_bytes = 0;
  const auto weight_was_read = [&](const LayerQuantizer& layer) {
    read_bytes += layer.weight().nbytes();
    if (!loop.let_go_of_weights || read_bytes < kWeightsHeld) return;
    loop.let_go_of_weights();
    read_bytes = 0;
  };
  Losses losses(tuning.iters, best_of(tuning) == Tuning::BestOf::kEpoch ? samples / batch : 1, device, loop);

  for (int64_t iteration = 0; iteration < tuning.iters; ++iteration) {
    UnitTree squared_error;
    write_leaves(loop.layers, tunable, weight_was_read);
    at::Tensor inputs, targets;  // of this rank's share
    if (rank_count() > 1) {
      const int64_t* const drawn = batches.const_data_ptr<int64_t>() + iteration * batch;
      const std::vector<int64_t> numbers(drawn, drawn + batch);
      inputs = exchange_rows(loop.inputs, samples, numbers, seqlen);
      targets = exchange_rows(loop.targets, samples, numbers, seqlen);
    }
    for_units(share.size(), seqlen, [&](int64_t first, int64_t last) {
      const int64_t begin = share.begin + first, end = share.begin + last;
      const auto unit = [&](const at::Tensor& indices) { return indices.select(0, iteration).slice(0, begin, end); };
      const at::Tensor input = inputs.defined() ? inputs.slice(0, first, last) : loop.inputs.rows(unit(for_inputs)),
                       target =
                           targets.defined() ? targets.slice(0, first, last) : loop.targets.rows(unit(for_targets));
      const at::Tensor prediction = loop.forward(input);
      const at::Tensor wanted = target.narrow(-1, 0, compared), counts = mask.index_select(0, unit(for_mask));
      const double scale = 2 * kLossScale / elements[iteration];
      MaskedLoss loss =
          loop.loss ? loop.loss(prediction, wanted, counts, scale, iteration)
                    : masked_squared_error(
                          prediction.detach(), wanted, counts, scale,
                          loop.drop_outliers ? std::max<int64_t>(1, prediction.numel() / kElementsPerOutlier) : 0);
      squared_error.add(std::move(loss.squared_error));
      if (prediction.requires_grad()) prediction.backward(loss.gradient);  // else no tuned expert got a token
      end_unit(loop.layers);
    });
    const at::Tensor improved = losses.add(joined_over_ranks(squared_error.take()).to(device) / elements[iteration]);
    post_gradients(loop.layers);
    at::Tensor improved_on_host;  // one wait for all layers whose plugin has no kernels for the device
    for (size_t i = 0; i < loop.layers.size(); ++i) {
      LayerQuantizer& layer = *loop.layers[i];
      if (!layer.is_own()) continue;
      if (layer.device() != device && !improved_on_host.defined()) improved_on_host = improved.to(layer.device());
      layer.keep_best(layer.device() == device ? improved : improved_on_host, loop.ahead);
      const at::Tensor gradient = take_gradient(layer);  // one at a time: of many experts they are large
      if (!gradient.defined()) continue;                 // it is zero, and a step along it none
      layer.step(gradient, {rates[i].rounding.select(0, iteration), rates[i].range.select(0, iteration)});
      weight_was_read(layer);
    }
    if (rank_count() > 1) ranks()->flush();
  }
  const BlockLoss result = losses.result();
  for (auto& layer : loop.layers) {
    if (!layer->tunable()) continue;
    layer->leaf().set_requires_grad(false);
    layer->restore_best();
  }
  write_leaves(loop.layers, tunable, weight_was_read);
  return result;
}

}  // namespace roundhouse
