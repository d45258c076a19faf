#include "host/tuning/block_loop.h"

#include <cmath>
#include <limits>

#include "host/base/error.h"
#include "host/tuning/loss.h"

namespace roundhouse {
namespace {

// Keeps bfloat16 gradients away from the denormals; the sign does not see it.
constexpr double kLossScale = 1000;

LearningRates rates_at(const Tuning& tuning, int64_t iteration, int bits, at::Device device) {
  const double decay = 1.0 - static_cast<double>(iteration) / static_cast<double>(tuning.iters);
  const auto scalar = [&](double rate) { return at::scalar_tensor(rate * decay, at::kFloat).to(device); };
  return {scalar(learning_rate(tuning, bits)), scalar(minmax_learning_rate(tuning, bits))};
}

// The gradient of each leaf, summed over an iteration's micro-batches: in the leaf's own type when there is one
// micro-batch, else in float32.
class Gradients {
 public:
  Gradients(std::vector<std::unique_ptr<LayerQuantizer>>& layers, bool single) : layers_(layers), single_(single) {
    sums_.resize(layers.size());
  }
  void collect() {
    for (size_t i = 0; i < layers_.size(); ++i) {
      if (!layers_[i]->tunable()) continue;
      at::Tensor& gradient = layers_[i]->leaf().mutable_grad();
      if (!gradient.defined()) continue;  // the block does not use this layer
      if (single_) {
        sums_[i] = gradient;
      } else if (!sums_[i].defined()) {
        sums_[i] = gradient.to(at::kFloat);
      } else {
        sums_[i].add_(gradient);
      }
      gradient.reset();
    }
  }
  // The sum, handed over.
  at::Tensor take(size_t i) { return std::exchange(sums_[i], {}); }

 private:
  std::vector<std::unique_ptr<LayerQuantizer>>& layers_;
  bool single_;
  std::vector<at::Tensor> sums_;
};

}  // namespace

BlockLoss run_block_loop(const BlockLoop& loop, const Tuning& tuning, int64_t batch_size) {
  const int64_t samples = loop.inputs.samples();
  const int64_t global_batch = std::min<int64_t>(samples, batch_size * tuning.gradient_accumulation);
  const at::Device device = loop.inputs.device();
  BatchSampler sampler(samples, global_batch, loop.random);
  Gradients gradients(loop.layers, global_batch <= batch_size);
  BlockLoss result;
  result.best = std::numeric_limits<double>::infinity();

  for (auto& layer : loop.layers)
    if (layer->tunable()) layer->leaf().set_requires_grad(true);
  for (int64_t iteration = 0; iteration < tuning.iters; ++iteration) {
    for (auto& layer : loop.layers) layer->forward();
    const std::vector<int64_t> batch = sampler.next();
    const at::Tensor indices = at::tensor(batch, at::kLong);
    const double scored = loop.mask.index_select(0, indices).sum(at::kLong).item<int64_t>();
    const double elements = std::max(1.0, scored) * static_cast<double>(loop.targets.features());
    double squared_error = 0;
    for (int64_t begin = 0; begin < global_batch; begin += batch_size) {
      const at::Tensor micro = indices.slice(0, begin, std::min(global_batch, begin + batch_size));
      const at::Tensor prediction = loop.forward(loop.inputs.rows(micro.to(loop.inputs.index_device())));
      const MaskedLoss loss =
          masked_squared_error(prediction.detach(), loop.targets.rows(micro.to(loop.targets.index_device())),
                               loop.mask.index_select(0, micro), 2 * kLossScale / elements);
      squared_error += loss.squared_error;
      prediction.backward(loss.gradient);
      gradients.collect();
    }
    const double loss = squared_error / elements;
    if (!std::isfinite(loss))
      throw Error(cat("the loss became ", loss, " at iteration ", iteration,
                      ": the block's output overflows in this arithmetic; check the weights, or lower lr"));
    if (iteration == 0) result.first = loss;
    if (loss < result.best) {
      result.best = loss;
      result.best_iteration = iteration;
      for (auto& layer : loop.layers) layer->keep_best();
    }
    for (size_t i = 0; i < loop.layers.size(); ++i) {
      const at::Tensor gradient = gradients.take(i);
      if (!gradient.defined()) continue;
      const int bits = loop.layers[i]->plan().scheme.weight->bits;
      loop.layers[i]->step(gradient, rates_at(tuning, iteration, bits, device));
    }
    loop.progress(iteration, loss);
  }
  for (auto& layer : loop.layers) {
    layer->leaf().set_requires_grad(false);
    layer->restore_best();
    layer->forward();
  }
  return result;
}

}  // namespace roundhouse
