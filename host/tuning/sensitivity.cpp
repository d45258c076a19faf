// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/sensitivity.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <set>

#include "host/base/cancel.h"
#include "host/base/cpu.h"
#include "host/base/error.h"
#include "host/base/parallel.h"
#include "host/base/random.h"
#include "host/model/accelerator.h"
#include "host/model/decoder.h"
#include "host/model/torch_tensor.h"
#include "host/text/calibration.h"
#include "host/tuning/expert_tokens.h"
#include "host/tuning/hidden_states.h"
#include "host/tuning/importance.h"
#include "host/tuning/layer_quantizer.h"
#include "host/tuning/place.h"
#include "host/tuning/units.h"

namespace roundhouse {
namespace {

constexpr int64_t kLogits = int64_t{1} << 24;  // elements of logits at once: 64 MiB
constexpr int64_t kElementsPerChunk = 1 << 16;

// A token that is drawn from these probabilities. u: in [0, 1)
int64_t drawn(const float* probabilities, int64_t vocab, double u) {
  double sum = 0;
  for (int64_t token = 0; token < vocab; ++token) {
    sum += static_cast<double>(probabilities[token]);
    if (u < sum) return token;
  }
  return std::max_element(probabilities, probabilities + vocab) - probabilities;  // they sum up to a little less than 1
}

// The sum of squares * errors^2; both f32 of one shape.
double weighted_error(const at::Tensor& squares, const at::Tensor& errors) {
  if (!squares.is_cpu()) return (squares * errors.square()).sum(at::kDouble).item<double>();
  const float *const s = squares.const_data_ptr<float>(), *const e = errors.const_data_ptr<float>();
  const int64_t n = squares.numel();
  std::vector<double> sums(static_cast<size_t>((n + kElementsPerChunk - 1) / kElementsPerChunk));
  parallel_for(n, kElementsPerChunk, [&](int64_t begin, int64_t end) {
    double sum = 0;
    for (int64_t i = begin; i < end; ++i)
      sum += static_cast<double>(s[i]) * static_cast<double>(e[i]) * static_cast<double>(e[i]);
    sums[static_cast<size_t>(begin / kElementsPerChunk)] = sum;
  });
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

class Measurement {
 public:
  explicit Measurement(const SensitivityInput& input)
      : in_(input),
        recipe_(input.mix.plans[0]->recipe),
        device_(input.device),
        on_device_(device_),
        compute_(computes_in_bfloat16(device_.is_cuda()) ? at::kBFloat16 : at::kFloat),
        seqlen_(static_cast<int64_t>(input.samples.front().size())),
        samples_(static_cast<int64_t>(sensitivity_samples(input.samples.size(), seqlen_))),
        blocks_(input.architecture.blocks()),
        memory_{input.memory, recipe_.output, {}} {
    at::set_num_threads(threads());
    for (const MixGroup& group : in_.mix.groups)
      for (const size_t layer : group.layers) layers_[in_.mix.plans[0]->layers[layer].block].push_back(layer);
    for (const auto& plan : in_.mix.plans)
      for (const auto& [block, layers] : layers_)
        for (const size_t layer : layers) untuned_[plan.get()].emplace(layer, untuned_layer(plan->layers[layer]));
  }

  Sensitivities run() {
    const at::NoGradGuard no_grad;
    at_place("the embedding", recipe_, [&] { embed(); });
    for (int64_t block = 0; block < blocks_; ++block)
      at_place(cat("block ", block), recipe_, [&] {
        step();
        go_up(block);
      });
    at_place(in_.architecture.head().name, recipe_, [&] { turn(); });
    for (int64_t block = blocks_; block-- > 0;)
      at_place(cat("block ", block), recipe_, [&] {
        step();
        go_down(block);
      });
    return std::move(result_);
  }

 private:
  void step() {
    throw_if_cancelled();
    if (in_.progress) in_.progress(step_, 2 * blocks_);
    ++step_;
  }

  LayerPlan untuned_layer(const LayerPlan& layer) const {
    return layer.scheme.weight && is_tuned(layer.scheme.weight->rounding) ? untuned(layer, in_.catalogue) : layer;
  }

  void embed() {
    decoder_ = std::make_unique<Decoder>(in_.architecture, in_.source, compute_, device_);
    positions_ = std::make_unique<PositionData>(decoder_->positions(seqlen_));
    for (int64_t i = 0; i <= blocks_; ++i)
      between_.push_back(std::make_unique<HiddenStates>(
          at::IntArrayRef{samples_, seqlen_, in_.architecture.state_size()}, compute_, device_, memory_));
    for (int64_t i = 0; i < samples_; ++i) {
      const std::vector<int32_t>& sample = in_.samples[static_cast<size_t>(i)];
      at::Tensor ids = at::empty({1, seqlen_}, at::kLong);
      std::copy(sample.begin(), sample.end(), ids.mutable_data_ptr<int64_t>());
      between_[0]->write(i, decoder_->embed(ids));
      masks_.push_back(loss_mask(sample, in_.pad_id));
      scored_ += std::count(masks_.back().begin(), masks_.back().end(), 1);
    }
  }

  void go_up(int64_t index) {
    Block block = decoder_->block(index);
    std::set<std::string> wanted;
    for (const auto& [plan, layers] : untuned_)
      for (const size_t layer : layers_[index])
        if (const auto& weight = layers.at(layer).scheme.weight; weight && is_searched(weight->rounding))
          wanted.insert(layers.at(layer).info.name);
    ImportanceCollector collector(recipe_.imatrix.file ? std::set<std::string>() : std::move(wanted));
    block.set_input_hook([&](const LinearInfo& linear, const at::Tensor& input) {
      collector.add(linear, input);
      return input;
    });
    for_units(samples_, seqlen_, [&](int64_t begin, int64_t end) {
      between_[static_cast<size_t>(index) + 1]->write(
          begin, block.forward(between_[static_cast<size_t>(index)]->rows(begin, end), *positions_));
    });
    importance_.merge(collector.take());
  }

  // In place of the last block's outputs: the gradient of -log p of tokens that the model's prediction is drawn for.
  void turn() {
    PythonRandom random(static_cast<uint64_t>(recipe_.calibration.seed));
    const int64_t vocab = in_.architecture.vocab_size(), rows = std::max<int64_t>(1, kLogits / vocab);
    for (int64_t i = 0; i < samples_; ++i) {
      throw_if_cancelled();
      const at::Tensor hidden = between_.back()->rows(i, i + 1)[0];
      const std::vector<uint8_t>& mask = masks_[static_cast<size_t>(i)];
      at::Tensor gradient = at::empty_like(hidden);
      for (int64_t begin = 0; begin < seqlen_; begin += rows) {
        const int64_t end = std::min(seqlen_, begin + rows);
        const at::AutoGradMode with_grad(true);
        const at::Tensor leaf = hidden.slice(0, begin, end).detach().requires_grad_(true);
        const at::Tensor logits = decoder_->head(leaf);
        at::Tensor of_logits = logits.detach().to(at::kFloat).softmax(-1).cpu().contiguous();
        float* const p = of_logits.mutable_data_ptr<float>();
        for (int64_t row = begin; row < end; ++row) {
          float* const of_row = p + (row - begin) * vocab;
          const double u = std::ldexp(static_cast<double>(random.getrandbits(53)), -53);
          if (mask[static_cast<size_t>(row)])
            of_row[drawn(of_row, vocab, u)] -= 1;
          else
            std::fill(of_row, of_row + vocab, 0.0f);
        }
        logits.backward(of_logits.to(logits.options()));
        gradient.slice(0, begin, end).copy_(leaf.grad());
      }
      between_.back()->write(i, gradient.unsqueeze(0));
    }
  }

  // The gradients of a block's outputs take the place of those of its inputs.
  void go_down(int64_t index) {
    HiddenStates &inputs = *between_[static_cast<size_t>(index)], &outputs = *between_[static_cast<size_t>(index) + 1];
    Block block = decoder_->block(index);
    std::map<std::string, at::Tensor> squares;  // by layer: of its weight's gradients, f32 summed over samples
    std::set<std::string> wanted;
    for (const size_t layer : layers_[index]) wanted.insert(in_.mix.plans[0]->layers[layer].info.name);
    std::vector<LinearSlot*> slots;
    for (LinearSlot& slot : block.linears()) {
      if (!wanted.contains(slot.info.name)) continue;
      slot.weight = slot.weight.detach().requires_grad_(true);
      slots.push_back(&slot);
    }
    for (int64_t i = 0; i < samples_; ++i) {
      throw_if_cancelled();
      const at::AutoGradMode with_grad(true);
      const at::Tensor leaf = inputs.rows(i, i + 1).detach().requires_grad_(true);
      block.forward(leaf, *positions_).backward(outputs.rows(i, i + 1));
      const at::AutoGradMode without_grad(false);
      inputs.write(i, leaf.grad());
      for (LinearSlot* slot : slots) {
        at::Tensor& gradient = slot->weight.mutable_grad();
        if (!gradient.defined()) continue;  // of an expert that no token reached
        const at::Tensor wide = gradient.to(at::kFloat);
        at::Tensor& sum = squares[slot->info.name];
        if (!sum.defined()) sum = at::zeros(wide.sizes(), wide.options());
        sum.addcmul_(wide, wide);
        gradient = at::Tensor();
      }
    }
    between_.pop_back();
    for (LinearSlot* slot : slots) slot->weight = at::Tensor();
    for (size_t scheme = 0; scheme < in_.mix.plans.size(); ++scheme) score(index, scheme, squares);
  }

  void score(int64_t index, size_t scheme, const std::map<std::string, at::Tensor>& squares) {
    const std::map<size_t, LayerPlan>& plans = untuned_.at(in_.mix.plans[scheme].get());
    LayerQuantizers quantizers;
    for (const size_t layer : layers_[index])
      if (const LayerPlan& plan = plans.at(layer); plan.scheme.weight)
        quantizers.push_back(std::make_unique<LayerQuantizer>(in_.catalogue, plan,
                                                              in_.source.load(plan.info.name + ".weight"), device_));
    const Importance& given = in_.mix.plans[scheme]->importance;
    prepare(quantizers, given.empty() ? importance_ : given);
    for (const auto& quantizer : quantizers)
      quantizer->on_device().check();  // its error says more than an infinite loss
    for (const size_t layer : layers_[index]) result_[plans.at(layer).info.name].resize(in_.mix.plans.size());
    for (auto& quantizer : quantizers) {
      const std::string& name = quantizer->plan().info.name;
      const auto found = squares.find(name);
      if (found == squares.end()) continue;
      quantizer->make_leaf(at::kFloat, device_);
      quantizer->forward();
      const at::Tensor weight = to_torch(in_.source.load(name + ".weight")).to(device_, at::kFloat);
      const double loss = weighted_error(found->second, (quantizer->leaf() - weight).contiguous()) /
                          (2 * static_cast<double>(std::max<int64_t>(1, scored_)));
      if (!std::isfinite(loss))
        throw Error(cat("the gradients of ", name, " are not finite on the calibration texts: the model overflows in ",
                        "this arithmetic. Name one scheme instead of a mix"));
      result_[name][scheme] = loss;
      quantizer.reset();
    }
  }

  const SensitivityInput& in_;
  const Recipe& recipe_;
  at::Device device_;
  OnRunDevice on_device_;
  at::ScalarType compute_;
  int64_t seqlen_, samples_, blocks_, scored_ = 0, step_ = 0;
  HiddenStatesMemory memory_;
  std::map<int64_t, std::vector<size_t>> layers_;  // of the mix, by block
  std::map<const Plan*, std::map<size_t, LayerPlan>> untuned_;
  std::unique_ptr<Decoder> decoder_;
  std::unique_ptr<PositionData> positions_;
  std::vector<std::unique_ptr<HiddenStates>> between_;  // the inputs of each block, and the last one's outputs
  std::vector<std::vector<uint8_t>> masks_;
  Importance importance_;
  Sensitivities result_;
};

}  // namespace

Sensitivities measure_sensitivities(const SensitivityInput& input) { return Measurement(input).run(); }

}  // namespace roundhouse
