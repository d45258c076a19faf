// SPDX-License-Identifier: Apache-2.0
#include "host/model/rotary.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <numbers>
#include <stdexcept>

namespace roundhouse {
namespace {

// YaRN: features that turn beta_fast times or more in the original context are kept, those that turn less than
// beta_slow times are divided by factor, and between the two there is a linear blend over the features' numbers.
at::Tensor yarn(const RotaryInfo& rotary, const at::Tensor& plain) {
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

// Llama 3.1: wavelengths that fit high_freq_factor times or more into the original context are kept, those that fit
// less than low_freq_factor times are divided by factor, and between the two there is a linear blend.
at::Tensor llama3(const RotaryInfo& rotary, const at::Tensor& plain) {
  const at::Tensor turns = plain * (static_cast<double>(rotary.original_positions) / (2 * std::numbers::pi));
  const at::Tensor kept =
      ((turns - rotary.low_freq_factor) / (rotary.high_freq_factor - rotary.low_freq_factor)).clamp(0, 1);
  return (1 - kept) * plain / rotary.factor + kept * plain;
}

// Angular frequencies of the rotated feature pairs, [dims / 2] in float32.
at::Tensor rotary_frequencies(const RotaryInfo& rotary, int64_t seqlen) {
  const at::Tensor exponents = at::arange(0, rotary.dims, 2, at::kFloat) / static_cast<double>(rotary.dims);
  const at::Tensor powers = at::pow(at::Scalar(rotary.theta), exponents);
  const at::Tensor plain = powers.reciprocal();
  switch (rotary.scaling) {
    case RotaryInfo::Scaling::kNone:
      return plain;
    case RotaryInfo::Scaling::kLinear:
      return plain / rotary.factor;
    case RotaryInfo::Scaling::kLlama3:
      return llama3(rotary, plain);
    case RotaryInfo::Scaling::kYarn:
      return yarn(rotary, plain);
    case RotaryInfo::Scaling::kProportional:
      return at::where(at::arange(rotary.dims / 2) < rotary.turning, plain / rotary.factor, 0.0f);
    case RotaryInfo::Scaling::kLongrope: {
      const auto& factors = seqlen > rotary.original_positions ? rotary.long_factors : rotary.short_factors;
      return (at::tensor(factors, at::kDouble).to(at::kFloat) * powers).reciprocal();
    }
  }
  throw std::logic_error("a rotary scaling without a formula");
}

Rotation rotation_of(const RotaryInfo& rotary, int64_t seqlen, at::ScalarType dtype, at::Device device) {
  // Not at::cos and at::sin, whose bits depend on the number of threads.
  const at::Tensor frequencies = rotary_frequencies(rotary, seqlen);
  const int64_t half = frequencies.numel();
  const bool beyond = rotary.scaling == RotaryInfo::Scaling::kLongrope && seqlen > rotary.original_positions;
  const auto attention = static_cast<float>(beyond ? rotary.long_attention_factor : rotary.attention_factor);
  at::Tensor cos = at::empty({seqlen, 1, half}), sin = at::empty({seqlen, 1, half});
  for (int64_t i = 0; i < seqlen * half; ++i) {
    const float angle = static_cast<float>(i / half) * frequencies.const_data_ptr<float>()[i % half];
    cos.mutable_data_ptr<float>()[i] = std::cos(angle) * attention;
    sin.mutable_data_ptr<float>()[i] = std::sin(angle) * attention;
  }
  const auto both = [&](const at::Tensor& t) {
    return (rotary.interleaved ? t.repeat_interleave(2, -1) : t.repeat({1, 1, 2})).to(device, dtype);
  };
  return {rotary, both(cos), both(sin)};
}

at::Tensor length_scale(const LengthScaleInfo& info, int64_t seqlen) {
  at::Tensor scale = at::empty({seqlen, 1, 1});
  for (int64_t p = 0; p < seqlen; ++p)
    scale.mutable_data_ptr<float>()[p] =
        1 + static_cast<float>(info.beta) * std::log(1 + static_cast<float>((p + info.offset) / info.positions));
  return scale;
}

// Press et al.'s slopes: a geometric series from 2^(-8/n) for n heads, the greatest power of two that is not above all;
// the heads beyond have every other slope of the series for 2n.
std::vector<float> alibi_slopes(int64_t heads) {
  int64_t n = 1;
  while (2 * n <= heads) n *= 2;
  std::vector<float> slopes;
  for (int64_t i = 0; i < heads; ++i) {
    const double exponent = i < n ? -8.0 * static_cast<double>(i + 1) / static_cast<double>(n)
                                  : -4.0 * static_cast<double>(2 * (i - n) + 1) / static_cast<double>(n);
    slopes.push_back(static_cast<float>(std::exp2(exponent)));
  }
  return slopes;
}

}  // namespace

const Rotation& PositionData::rotation(const RotaryInfo& info) const {
  const auto found =
      std::find_if(rotations.begin(), rotations.end(), [&](const Rotation& rotation) { return rotation.info == info; });
  assert(found != rotations.end());
  return *found;
}

PositionData position_data(const DecoderInfo& info, int64_t seqlen, at::ScalarType dtype, at::Device device) {
  PositionData data;
  data.seqlen = seqlen;
  const at::Tensor at = at::arange(seqlen);
  const at::Tensor distance = at.unsqueeze(1) - at;  // of the seen position before the seeing one
  const auto mask = [&](int64_t window, bool chunked) {
    const at::Tensor in_chunk = at.remainder(window).unsqueeze(1);  // positions of the chunk before the seeing one
    const at::Tensor hidden = distance.lt(0).logical_or_(chunked ? distance.gt(in_chunk) : distance.ge(window));
    return at::zeros({seqlen, seqlen}, dtype).masked_fill_(hidden, -std::numeric_limits<double>::infinity()).to(device);
  };
  const auto add = [&](const AttentionInfo& attention) {
    const auto known = [&](const Rotation& rotation) { return rotation.info == *attention.rotary; };
    if (attention.rotary && std::none_of(data.rotations.begin(), data.rotations.end(), known))
      data.rotations.push_back(rotation_of(*attention.rotary, seqlen, dtype, device));
    const int64_t window = std::min(attention.sliding_window.value_or(seqlen), seqlen);
    if (const std::pair kind(window, attention.chunked);
        (window < seqlen || attention.needs_mask()) && !data.masks.contains(kind))
      data.masks[kind] = mask(window, attention.chunked);
    if (attention.length_scale && !data.length_scale.defined())
      data.length_scale = length_scale(*attention.length_scale, seqlen).to(device, dtype);
    if (attention.alibi && !data.alibi.defined()) {
      const at::ScalarType type = attention.alibi->bfloat16 ? at::kBFloat16 : at::kFloat;
      const at::Tensor slopes = at::tensor(alibi_slopes(attention.heads)).view({-1, 1, 1}).to(type);
      data.alibi = (slopes * at.to(type)).to(dtype).mul(attention.alibi->scale).to(device) + mask(seqlen, false);
    }
  };
  for (const BlockInfo& block : info.blocks)
    for (const StepInfo& step : block.steps)
      if (step.attention) add(*step.attention);
  return data;
}

}  // namespace roundhouse
