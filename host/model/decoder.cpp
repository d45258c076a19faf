// SPDX-License-Identifier: Apache-2.0
#include "host/model/decoder.h"

#include <ATen/ATen.h>
#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>

#include <cmath>

#include "host/base/error.h"
#include "host/base/parallel.h"
#include "host/model/finite.h"
#include "host/model/ops.h"

namespace roundhouse {
namespace {

// A vector for the experts; some checkpoints have it as a row.
std::vector<int64_t> correction_bias_shape(TensorSource& source, const std::string& name, int64_t experts) {
  const bool row = source.contains(name) && source.info(name).shape.size() == 2;
  return row ? std::vector<int64_t>{1, experts} : std::vector<int64_t>{experts};
}

}  // namespace

Block::Block(const Architecture& architecture, int64_t index, TensorSource& source, at::ScalarType dtype,
             at::Device device, const LoadedWeights& loaded)
    : hidden_(architecture.hidden_size()), passed_on_(architecture.info().passed_on) {
  const Loader load = [&](const std::string& name, at::IntArrayRef shape) {
    return load_checked(source, name, shape).to(device, dtype);
  };
  const auto add = [&](const std::vector<LinearInfo>& infos) {
    const size_t first = linears_.slots.size();
    for (const LinearInfo& info : infos) {
      const at::ScalarType type = info.float32 ? at::toOpMathType(dtype) : dtype;
      const auto load_slot = [&](const char* part, at::IntArrayRef shape) {
        return load_checked(source, info.name + part, shape).to(device, type);
      };
      const std::vector<int64_t> shape{info.out_features, info.in_features};
      const at::Tensor at_hand = loaded ? loaded(info) : at::Tensor();
      const bool fits = at_hand.defined() && at_hand.sizes() == shape;
      LinearSlot slot{info, fits ? at_hand.to(device, type) : load_slot(".weight", shape), {}};
      if (info.has_bias) slot.bias = load_slot(".bias", {info.out_features});
      linears_.slots.push_back(std::move(slot));
    }
    return first;
  };
  for (const StepInfo& info : architecture.info().blocks[static_cast<size_t>(index)].steps) {
    Step& step = steps_.emplace_back();
    step.scale = info.scale;
    if (const auto& part = info.recurrent) step.recurrent.emplace(*part, add(part->linears()), load);
    if (const auto& part = info.attention) step.attention.emplace(*part, add(part->linears()), load);
    if (const auto& part = info.mlp) step.mlp.emplace(*part, add(part->linears()), load);
    if (const auto& part = info.experts) {
      const size_t first = add(part->linears());
      at::Tensor bias;
      if (const std::string& name = part->router.correction_bias; !name.empty())
        bias = load_checked(source, name, correction_bias_shape(source, name, part->router.linear.out_features))
                   .flatten()
                   .to(device, at::toOpMathType(dtype));
      step.experts.emplace(*part, first, bias, load);
    }
    if (const auto& part = info.layer_input) step.layer_input.emplace(*part, add(part->linears()));
    step.norm_in = load_norm(info.norm_in, load);
    step.norm_mlp = load_norm(info.norm_mlp, load);
    step.norm_out = load_norm(info.norm_out, load);
    step.norm_sum = load_norm(info.norm_sum, load);
    if (!info.sum_scale.empty()) step.sum_scale = load(info.sum_scale, {1});
  }
}

at::Tensor Block::forward(const at::Tensor& hidden, const PositionData& positions) const {
  at::Tensor sum = hidden, passed_on;
  if (passed_on_ > 0) {
    sum = hidden.narrow(-1, 0, hidden_);
    passed_on = hidden.narrow(-1, hidden_, passed_on_);
  }
  for (const Step& step : steps_) {
    const at::Tensor x = step.norm_in ? (*step.norm_in)(sum) : sum;
    at::Tensor y;
    const auto add = [&](const at::Tensor& part) { y = y.defined() ? y + part : part; };
    if (step.recurrent) add(step.recurrent->forward(linears_, x));
    if (step.attention) add(step.attention->forward(linears_, x, positions, passed_on));
    if (step.mlp || step.experts) {
      const at::Tensor z = step.norm_mlp ? (*step.norm_mlp)(sum) : x;
      add(step.mlp ? step.mlp->forward(linears_, z) : step.experts->forward(linears_, z, expert_hook_));
    }
    if (step.layer_input) add(of_layer_input(step, x, passed_on));
    if (step.norm_out) y = (*step.norm_out)(y);
    sum = sum + (step.scale == 1 ? y : y * step.scale);
    if (step.norm_sum) sum = (*step.norm_sum)(sum);
    if (step.sum_scale.defined()) sum = sum * step.sum_scale;
  }
  return passed_on_ > 0 ? at::cat({sum, passed_on}, -1) : sum;
}

at::Tensor Block::of_layer_input(const Step& step, const at::Tensor& x, const at::Tensor& passed_on) const {
  const auto& [info, slot] = *step.layer_input;
  const at::Tensor input = passed_on.narrow(-1, info.at, info.gate.out_features);
  return linears_(slot + 1, activate_and_multiply(info.activation, linears_(slot, x), input));
}

Decoder::Decoder(const Architecture& architecture, TensorSource& source, at::ScalarType dtype, at::Device device)
    : architecture_(architecture), source_(source), dtype_(dtype), device_(device) {
  at::set_num_threads(threads());
  const DecoderInfo& info = architecture.info();
  const std::string own = info.embedding + ".weight", shared = info.head.name + ".weight";
  const bool under_head = info.tied_head && !source.contains(own) && source.contains(shared);
  embedding_ = load_checked(source_, under_head ? shared : own, {info.vocab, info.embedding_size});
  if (const auto& positions = info.learned_positions)
    learned_positions_ = load(positions->name + ".weight", {info.positions + positions->offset, info.hidden});
  if (const auto& linear = info.project_in)
    project_in_ = load(linear->name + ".weight", {linear->out_features, linear->in_features});
  if (const auto& linear = info.project_out)
    project_out_ = load(linear->name + ".weight", {linear->out_features, linear->in_features});
  if (const auto& inputs = info.layer_inputs) {
    const LinearInfo& projection = inputs->projection;
    layer_projection_ = load(projection.name + ".weight", {projection.out_features, projection.in_features});
  }
  if (info.head.has_bias) head_bias_ = load(info.head.name + ".bias", {info.vocab});
  const Loader loader = [this](const std::string& name, at::IntArrayRef shape) { return load(name, shape); };
  embedding_norm_ = load_norm(info.embedding_norm, loader);
  final_norm_ = load_norm(info.final_norm, loader);
  if (info.layer_inputs) layer_norm_ = load_norm(info.layer_inputs->norm, loader);
}

at::Tensor Decoder::load(const std::string& name, at::IntArrayRef shape) const {
  return load_checked(source_, name, shape).to(device_, dtype_);
}

at::Tensor Decoder::embed(const at::Tensor& ids) const {
  const auto [low, high] = at::aminmax(ids);
  if (low.item<int64_t>() < 0 || high.item<int64_t>() >= architecture_.vocab_size())
    throw Error(cat(source_.location(), ": a token id is ", high.item<int64_t>(), ", but the model's vocabulary has ",
                    architecture_.vocab_size(), " entries: the tokenizer is another model's"));
  at::Tensor hidden = at::embedding(embedding_, ids).to(device_, dtype_);
  // The factor is rounded to the model's type, as in transformers.
  if (const double scale = architecture_.info().embedding_scale; scale != 1)
    hidden = hidden * at::scalar_tensor(scale, hidden.options());
  if (embedding_norm_) hidden = (*embedding_norm_)(hidden);
  if (project_in_.defined()) hidden = at::linear(hidden, project_in_);
  if (learned_positions_.defined()) {
    const int64_t seqlen = ids.size(1);
    if (seqlen > architecture_.max_positions())
      throw Error(cat(source_.location(), ": a sequence has ", seqlen, " tokens, but the model has positions for ",
                      architecture_.max_positions()));
    hidden = hidden + learned_positions_.narrow(0, architecture_.info().learned_positions->offset, seqlen);
  }
  return architecture_.info().passed_on > 0 ? at::cat({hidden, passed_on(ids, hidden)}, -1) : hidden;
}

// As the first block gets it. Factors are rounded where transformers rounds them.
at::Tensor Decoder::passed_on(const at::Tensor& ids, const at::Tensor& hidden) const {
  const DecoderInfo& info = architecture_.info();
  at::Tensor all = at::zeros({ids.size(0), ids.size(1), info.passed_on}, hidden.options());
  if (!info.layer_inputs) return all;
  const LayerInputsInfo& inputs = *info.layer_inputs;
  if (!layer_table_.defined())
    layer_table_ = load_checked(source_, inputs.table + ".weight", {inputs.vocab, inputs.projection.out_features});
  const auto root = [](int64_t size) { return std::sqrt(static_cast<double>(size)); };
  const at::Tensor of_tokens =
      at::embedding(layer_table_, ids).to(device_, dtype_) * at::scalar_tensor(root(inputs.size), hidden.options());
  const at::Tensor projected = at::linear(hidden, layer_projection_) * (1 / root(info.hidden));
  const at::Tensor normed = (*layer_norm_)(projected.unflatten(-1, {-1, inputs.size})).flatten(-2);
  all.narrow(-1, 0, of_tokens.size(-1)).copy_((normed + of_tokens) * (1 / root(2)));
  return all;
}

PositionData Decoder::positions(int64_t seqlen) const {
  return position_data(architecture_.info(), seqlen, dtype_, device_);
}

Block Decoder::block(int64_t index, const LoadedWeights& loaded) const {
  layer_table_.reset();
  Block block(architecture_, index, source_, dtype_, device_, loaded);
  block.set_input_hook(input_hook_);
  return block;
}

at::Tensor Decoder::head_input(const at::Tensor& hidden) const {
  const int64_t size = architecture_.hidden_size();
  const at::Tensor own = hidden.size(-1) == size ? hidden : hidden.narrow(-1, 0, size);
  const at::Tensor x = final_norm_ ? (*final_norm_)(own) : own;
  return project_out_.defined() ? at::linear(x, project_out_) : x;
}

at::Tensor Decoder::head(const at::Tensor& hidden) const {
  const DecoderInfo& info = architecture_.info();
  if (!head_.defined()) {
    head_ = info.tied_head ? embedding_.to(device_, dtype_)
                           : load(info.head.name + ".weight", {info.vocab, info.embedding_size});
  }
  const at::Tensor x = head_input(hidden);
  at::Tensor logits = at::linear(input_hook_ ? input_hook_(info.head, x) : x, head_, head_bias_);
  if (info.logit_scale) logits = logits * *info.logit_scale;
  if (info.logit_divisor) logits = logits / *info.logit_divisor;
  return info.logit_softcap ? soft_cap(logits, *info.logit_softcap) : logits;
}

}  // namespace roundhouse
