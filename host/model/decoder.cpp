// SPDX-License-Identifier: Apache-2.0
#include "host/model/decoder.h"

#include <ATen/ATen.h>
#include <ATen/OpMathType.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "host/base/error.h"
#include "host/model/finite.h"
#include "host/model/ops.h"

namespace roundhouse {
namespace {

at::Tensor load_checked(TensorSource& source, const std::string& name, at::IntArrayRef shape) {
  const Tensor tensor = source.load(name);
  if (at::IntArrayRef(tensor.shape()) != shape)
    throw Error(cat(source.location(), ": ", name, " has the shape ", shape_text(tensor.shape()),
                    ", but config.json says ", shape_text(shape.vec())));
  if (!is_floating(tensor.dtype()))
    throw Error(cat(source.location(), ": ", name, " is of type ", safetensors_name(tensor.dtype()),
                    ", but floating-point weights are expected; is the checkpoint quantized already?"));
  if (!source.checks_finite(name)) check_finite(tensor, name, source.location());
  return to_torch(tensor);
}

std::optional<LoadedNorm> load_norm(const std::optional<NormInfo>& info,
                                    const std::function<at::Tensor(const std::string&, at::IntArrayRef)>& load) {
  if (!info) return std::nullopt;
  LoadedNorm norm{*info, {}, {}};
  if (info->has_weight) norm.weight = load(info->name + ".weight", {info->size});
  if (info->has_bias) norm.bias = load(info->name + ".bias", {info->size});
  return norm;
}

// A vector for the experts; some checkpoints have it as a row.
std::vector<int64_t> correction_bias_shape(TensorSource& source, const std::string& name, int64_t experts) {
  const bool row = source.contains(name) && source.info(name).shape.size() == 2;
  return row ? std::vector<int64_t>{1, experts} : std::vector<int64_t>{experts};
}

// Angular frequencies of the rotated feature pairs, [dims / 2] in float32.
at::Tensor rotary_frequencies(const RotaryInfo& rotary) {
  const at::Tensor exponents = at::arange(0, rotary.dims, 2, at::kFloat) / static_cast<double>(rotary.dims);
  const at::Tensor plain = at::pow(at::Scalar(rotary.theta), exponents).reciprocal();
  switch (rotary.scaling) {
    case RotaryInfo::Scaling::kNone:
      return plain;
    case RotaryInfo::Scaling::kLinear:
      return plain / rotary.factor;
    case RotaryInfo::Scaling::kLlama3: {
      // Llama 3.1: wavelengths that fit high_freq_factor times or more into the original context are kept, those that
      // fit less than low_freq_factor times are divided by factor, and between the two there is a linear blend.
      const at::Tensor turns = plain * (static_cast<double>(rotary.original_positions) / (2 * std::numbers::pi));
      const at::Tensor kept =
          ((turns - rotary.low_freq_factor) / (rotary.high_freq_factor - rotary.low_freq_factor)).clamp(0, 1);
      return (1 - kept) * plain / rotary.factor + kept * plain;
    }
    case RotaryInfo::Scaling::kYarn: {
      // YaRN: features that turn beta_fast times or more in the original context are kept, those that turn less than
      // beta_slow times are divided by factor, and between the two there is a linear blend over the features' numbers.
      const auto feature = [&](double turns) {
        const double wavelength = static_cast<double>(rotary.original_positions) / (turns * 2 * std::numbers::pi);
        return static_cast<double>(rotary.dims) * std::log(wavelength) / (2 * std::log(rotary.theta));
      };
      double low = feature(rotary.beta_fast), high = feature(rotary.beta_slow);
      if (rotary.truncate) low = std::floor(low), high = std::ceil(high);
      low = std::max(low, 0.0);
      high = std::min(high, static_cast<double>(rotary.dims - 1));
      if (low == high) high += 0.001;
      const at::Tensor divided = ((at::arange(rotary.dims / 2, at::kFloat) - low) / (high - low)).clamp(0, 1);
      return plain / rotary.factor * divided + plain * (1 - divided);
    }
  }
  throw std::logic_error("a rotary scaling without a formula");
}

}  // namespace

at::Tensor LoadedNorm::operator()(const at::Tensor& x) const {
  return info.kind == NormKind::kRms ? rms_norm(x, weight, info.eps)
                                     : at::layer_norm(x, {info.size}, weight, bias, info.eps);
}

Block::Block(const Architecture& architecture, int64_t index, TensorSource& source, at::ScalarType dtype,
             at::Device device)
    : head_dim_(architecture.info().head_dim), grouped_(architecture.info().heads != architecture.info().kv_heads) {
  const auto load = [&](const std::string& name, at::IntArrayRef shape) {
    return load_checked(source, name, shape).to(device, dtype);
  };
  for (LinearInfo& info : architecture.block_linears(index)) {
    LinearSlot slot;
    const at::ScalarType type = info.float32 ? at::toOpMathType(dtype) : dtype;
    const auto load_slot = [&](const std::string& name, at::IntArrayRef shape) {
      return load_checked(source, name, shape).to(device, type);
    };
    slot.weight = load_slot(info.name + ".weight", {info.out_features, info.in_features});
    if (info.has_bias) slot.bias = load_slot(info.name + ".bias", {info.out_features});
    slot.info = std::move(info);
    linears_.push_back(std::move(slot));
  }
  size_t next = 0;
  for (const StepInfo& info : architecture.info().blocks[static_cast<size_t>(index)].steps) {
    Step step;
    step.norm_in = load_norm(info.norm_in, load);
    step.norm_out = load_norm(info.norm_out, load);
    step.norm_sum = load_norm(info.norm_sum, load);
    if (const auto& part = info.attention) {
      step.attention = Attention{next,
                                 next + 1,
                                 next + 2,
                                 next + 3,
                                 load_norm(part->q_norm, load),
                                 load_norm(part->k_norm, load),
                                 part->sliding_window};
      next += 4;
    }
    if (info.mlp) step.mlp.emplace(*info.mlp, next);
    if (const auto& part = info.experts) {
      at::Tensor bias;
      if (const std::string& name = part->router.correction_bias; !name.empty())
        bias = load_checked(source, name, correction_bias_shape(source, name, part->router.linear.out_features))
                   .flatten()
                   .to(device, at::toOpMathType(dtype));
      step.experts.emplace(*part, bias, next);
    }
    steps_.push_back(std::move(step));
  }
}

at::Tensor Block::forward(const at::Tensor& hidden, const PositionData& positions) const {
  const ApplyLinear apply = [this](size_t slot, const at::Tensor& input) { return linear(slot, input); };
  const ApplyLinear observe = [this](size_t slot, const at::Tensor& input) {
    return linear(slot, input, expert_hook_);
  };
  at::Tensor sum = hidden;
  for (const Step& step : steps_) {
    const at::Tensor x = step.norm_in ? (*step.norm_in)(sum) : sum;
    at::Tensor y;
    if (step.attention) y = attend(*step.attention, x, positions);
    const auto add = [&](const at::Tensor& part) { y = y.defined() ? y + part : part; };
    if (step.mlp) add(feed_forward(*step.mlp, apply, x));
    if (step.experts) add(step.experts->forward(x, apply, expert_hook_ ? &observe : nullptr));
    if (step.norm_out) y = (*step.norm_out)(y);
    sum = sum + y;
    if (step.norm_sum) sum = (*step.norm_sum)(sum);
  }
  return sum;
}

at::Tensor Block::linear(size_t slot, const at::Tensor& input, const InputHook& hook) const {
  const LinearSlot& s = linears_[slot];
  const at::ScalarType type = s.info.float32 ? input.scalar_type() : s.weight.scalar_type();
  return at::linear(hook ? hook(s.info, input) : input, s.weight.to(type), s.bias);
}

// The projection split into heads, [batch, seq, heads, head_dim], normed.
at::Tensor Block::heads_of(size_t slot, const at::Tensor& input, const std::optional<LoadedNorm>& norm) const {
  at::Tensor y = linear(slot, input);
  const bool each_head = norm && norm->info.size == head_dim_;
  if (norm && !each_head) y = (*norm)(y);
  y = y.unflatten(-1, {-1, head_dim_});
  return each_head ? (*norm)(y) : y;
}

at::Tensor Block::attend(const Attention& attention, const at::Tensor& x, const PositionData& positions) const {
  at::Tensor q = heads_of(attention.q, x, attention.q_norm);
  at::Tensor k = heads_of(attention.k, x, attention.k_norm);
  const at::Tensor v = heads_of(attention.v, x, std::nullopt);
  if (positions.cos.defined()) {
    q = rotate(q, positions.cos, positions.sin);
    k = rotate(k, positions.cos, positions.sin);
  }
  std::optional<at::Tensor> mask;
  if (attention.sliding_window && *attention.sliding_window < positions.seqlen)
    mask = positions.masks.at(*attention.sliding_window);
  const at::Tensor mixed =
      at::scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), mask, /*dropout_p=*/0,
                                       /*is_causal=*/!mask, /*scale=*/std::nullopt, /*enable_gqa=*/grouped_);
  return linear(attention.o, mixed.transpose(1, 2).flatten(2));
}

Decoder::Decoder(const Architecture& architecture, TensorSource& source, at::ScalarType dtype, at::Device device)
    : architecture_(architecture), source_(source), dtype_(dtype), device_(device) {
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
  if (info.head.has_bias) head_bias_ = load(info.head.name + ".bias", {info.vocab});
  final_norm_ =
      load_norm(info.final_norm, [this](const std::string& name, at::IntArrayRef shape) { return load(name, shape); });
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
  if (project_in_.defined()) hidden = at::linear(hidden, project_in_);
  if (learned_positions_.defined()) {
    const int64_t seqlen = ids.size(1);
    if (seqlen > architecture_.max_positions())
      throw Error(cat(source_.location(), ": a sequence has ", seqlen, " tokens, but the model has positions for ",
                      architecture_.max_positions()));
    hidden = hidden + learned_positions_.narrow(0, architecture_.info().learned_positions->offset, seqlen);
  }
  return hidden;
}

PositionData Decoder::positions(int64_t seqlen) const {
  PositionData data;
  data.seqlen = seqlen;
  if (const auto& rotary = architecture_.info().rotary) {
    // Not at::cos and at::sin, whose bits depend on the number of threads.
    const at::Tensor frequencies = rotary_frequencies(*rotary);
    const int64_t half = frequencies.numel();
    const auto attention = static_cast<float>(rotary->attention_factor);
    at::Tensor cos = at::empty({seqlen, 1, half}), sin = at::empty({seqlen, 1, half});
    for (int64_t i = 0; i < seqlen * half; ++i) {
      const float angle = static_cast<float>(i / half) * frequencies.const_data_ptr<float>()[i % half];
      cos.mutable_data_ptr<float>()[i] = std::cos(angle) * attention;
      sin.mutable_data_ptr<float>()[i] = std::sin(angle) * attention;
    }
    data.cos = cos.repeat({1, 1, 2}).to(device_, dtype_);
    data.sin = sin.repeat({1, 1, 2}).to(device_, dtype_);
  }
  const at::Tensor at = at::arange(seqlen);
  const at::Tensor distance = at.unsqueeze(1) - at;  // of the seen position before the seeing one
  for (const BlockInfo& block : architecture_.info().blocks) {
    for (const StepInfo& step : block.steps) {
      if (!step.attention || !step.attention->sliding_window) continue;
      const int64_t window = *step.attention->sliding_window;
      if (window >= seqlen || data.masks.contains(window)) continue;
      const at::Tensor hidden = distance.lt(0).logical_or_(distance.ge(window));
      data.masks[window] = at::zeros({seqlen, seqlen}, dtype_)
                               .masked_fill_(hidden, -std::numeric_limits<double>::infinity())
                               .to(device_);
    }
  }
  return data;
}

Block Decoder::block(int64_t index) const {
  Block block(architecture_, index, source_, dtype_, device_);
  block.set_input_hook(input_hook_);
  return block;
}

at::Tensor Decoder::head_input(const at::Tensor& hidden) const {
  const at::Tensor x = final_norm_ ? (*final_norm_)(hidden) : hidden;
  return project_out_.defined() ? at::linear(x, project_out_) : x;
}

at::Tensor Decoder::head(const at::Tensor& hidden) const {
  const DecoderInfo& info = architecture_.info();
  if (!head_.defined()) {
    head_ = info.tied_head ? embedding_.to(device_, dtype_)
                           : load(info.head.name + ".weight", {info.vocab, info.embedding_size});
  }
  const at::Tensor x = head_input(hidden);
  return at::linear(input_hook_ ? input_hook_(info.head, x) : x, head_, head_bias_);
}

}  // namespace roundhouse
