// SPDX-License-Identifier: Apache-2.0
// Inputs for the kernels of ggml's blocks, and all their results as floats by name.
#pragma once

#include <algorithm>

#include "kernels/cpu/ggml.h"
#include "plugins/dtypes/ggml/block_layout.h"
#include "tests/kernels/affine_problem.h"

namespace roundhouse::kernels {

struct GgmlProblem {
  ggml::BlockType type;
  GgmlLayer layer{};
  Elements weight{Element::kF32, 0}, gradient{Element::kF32, 0};
  std::vector<float> v, min_scale, max_scale;            // empty: plain rounding
  std::vector<float> d, dmin, scale_code, minimum_code;  // searched
  Element output = Element::kF32;

  GgmlInput input(const float* low, const float* high) const {
    const auto data = [](const std::vector<float>& t) { return t.empty() ? nullptr : t.data(); };
    GgmlInput input{};
    input.weight = weight.bytes.data();
    input.v = data(v);
    input.min_scale = data(min_scale);
    input.max_scale = data(max_scale);
    input.low = low;
    input.high = high;
    input.d = data(d);
    input.dmin = data(dmin);
    input.scale_code = data(scale_code);
    input.minimum_code = data(minimum_code);
    return input;
  }
  std::string text() const {
    return std::string(ggml::facts(type).name) + (layer.reference ? " in auto-round's arithmetic" : "") +
           (layer.searched ? " searched" : "") + (v.empty() ? " plain " : " tuned ") + name_of(layer.weight);
  }
};

inline GgmlProblem make_ggml_problem(ggml::BlockType type, bool reference, bool searched, bool tuned, Element weight,
                                     uint32_t seed, const std::function<float(std::mt19937&, int64_t)>& fill) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::uniform_real_distribution<float> unit(0.0f, 1.0f);
  const ggml::BlockFacts fact = ggml::facts(type);
  GgmlProblem p;
  p.type = type;
  p.layer = {3,
             512,
             fact.bits,
             fact.block_cols,
             fact.group_cols,
             fact.super_bits,
             fact.symmetric,
             fact.bits == 8,
             reference,
             searched,
             weight,
             reference ? static_cast<Element>(seed % 3) : Element::kF32,
             1e-8f};
  const int64_t n = p.layer.rows * p.layer.cols, groups = ggml_groups(p.layer);
  // Beyond float16 no block has a scale, and the plugin refuses.
  constexpr float kLargest = 6e4f;
  std::vector<float> w(n), g(n);
  for (int64_t i = 0; i < n; ++i) w[i] = std::clamp(fill(random, i), -kLargest, kLargest);
  for (float& x : g) x = random() % 16 == 0 ? 0.0f : normal(random);
  p.weight = Elements(weight, w);
  p.gradient = Elements(static_cast<Element>(seed % 3), g);
  p.output = static_cast<Element>(seed / 3 % 3);
  if (searched) {
    // What a search gives, but for its errors: float16, and integers in their range.
    const int most = fact.super_bits == 0 ? 0 : 1 << fact.super_bits;
    const auto code = [&](bool sign) {
      return most == 0 ? 1.0f : static_cast<float>(static_cast<int>(random() % most) - (sign ? most / 2 : 0));
    };
    p.d.resize(ggml_blocks(p.layer));
    p.dmin.assign(p.d.size(), 0.0f);
    p.scale_code.resize(groups);
    p.minimum_code.assign(groups, 1.0f);
    for (float& x : p.d) x = round_to<Element::kF16>(random() % 16 == 0 ? 0.0f : normal(random));
    for (float& x : p.scale_code) x = code(fact.symmetric);
    if (!fact.symmetric) {
      for (float& x : p.dmin) x = round_to<Element::kF16>(normal(random));
      for (float& x : p.minimum_code) x = code(false);
    }
  }
  if (!tuned) return p;
  p.v.resize(n);
  for (float& x : p.v) x = unit(random) - 0.5f;
  if (searched) return p;
  p.min_scale.resize(groups);
  p.max_scale.resize(groups);
  for (float& x : p.min_scale) x = 0.5f + 0.5f * unit(random);
  for (float& x : p.max_scale) x = 0.5f + 0.5f * unit(random);
  return p;
}

// Searched scales are not tuned.
inline TunableGradients gradients_of(const GgmlProblem& p, float* v, float* min_scale, float* max_scale) {
  if (p.layer.searched) return {v, nullptr, nullptr};
  return {v, min_scale, max_scale};
}
inline TunableStep step_of(const GgmlProblem& p, float* v, float* min_scale, float* max_scale,
                           const float* rounding_rate, const float* range_rate) {
  if (p.layer.searched) return {v, nullptr, nullptr, rounding_rate, range_rate};
  return {v, min_scale, max_scale, rounding_rate, range_rate};
}

inline Results run_ggml_cpu(const GgmlCpu& cpu, const GgmlProblem& p) {
  const GgmlLayer& layer = p.layer;
  const int64_t n = layer.rows * layer.cols, groups = ggml_groups(layer), blocks = ggml_blocks(layer);
  const Element scale_type = layer.super_bits == 0 ? layer.scale : Element::kF32;
  Results out;
  std::vector<float> low(groups), high(groups), minimum(groups), d(blocks), dmin(blocks), zero(groups);
  in_parts(blocks, [&](int64_t begin, int64_t end) {
    cpu.range(layer, p.weight.bytes.data(), low.data(), high.data(), begin, end);
  });
  out["low"] = low;
  out["high"] = high;
  const GgmlInput input = p.input(low.data(), high.data());

  Elements qdq(p.output, n), scale(scale_type, groups);
  in_parts(blocks, [&](int64_t begin, int64_t end) {
    cpu.forward(layer, input,
                {qdq.bytes.data(), p.output, scale.bytes.data(), minimum.data(), d.data(), dmin.data(), zero.data()},
                begin, end);
  });
  out["qdq"] = qdq.values();
  out["scale"] = scale.values();
  out["minimum"] = minimum;
  out["d"] = d;
  out["dmin"] = dmin;
  out["zero point"] = zero;

  if (!layer.reference) {
    const int bytes = ggml::facts(p.type).block_bytes;
    std::vector<uint8_t> packed(blocks * bytes);
    for (int64_t first = 0; first < blocks; first += kLanes) {
      const int64_t last = std::min<int64_t>(first + kLanes, blocks);
      GgmlBlock found[kLanes];
      uint8_t codes[kLanes * kMostBlockCols];
      cpu.codes(layer, input, codes, found, first, last);
      for (int64_t i = first; i < last; ++i)
        ggml::pack_block(p.type, found[i - first], codes + (i - first) * layer.block_cols, &packed[i * bytes]);
    }
    out["bytes of blocks"].assign(packed.begin(), packed.end());
  }

  const OutputGradient gradient{p.gradient.bytes.data(), p.gradient.type};
  std::vector<float> grad_v(n), grad_min(groups), grad_max(groups);
  in_parts(blocks, [&](int64_t begin, int64_t end) {
    cpu.backward(layer, input, gradient, gradients_of(p, grad_v.data(), grad_min.data(), grad_max.data()), begin, end);
  });
  out["grad v"] = grad_v;
  out["grad min_scale"] = grad_min;
  out["grad max_scale"] = grad_max;

  if (p.v.empty()) return out;
  GgmlProblem stepped = p;
  in_parts(blocks, [&](int64_t begin, int64_t end) {
    cpu.sign_step(layer, stepped.input(low.data(), high.data()), gradient,
                  step_of(stepped, stepped.v.data(), stepped.min_scale.data(), stepped.max_scale.data(), &kRoundingRate,
                          &kRangeRate),
                  begin, end);
  });
  out["v"] = stepped.v;
  out["min_scale"] = stepped.min_scale;
  out["max_scale"] = stepped.max_scale;
  return out;
}

// The search of the problem's weights, which are float32, with errors weighed by the gradient's.
inline Results search_ggml_cpu(const GgmlCpu& cpu, const GgmlProblem& p) {
  const GgmlLayer& layer = p.layer;
  const int64_t blocks = ggml_blocks(layer);
  const std::vector<float> x = p.weight.values();
  std::vector<float> square = p.gradient.values(), absolute = square, fit = square;
  for (size_t i = 0; i < square.size(); ++i) {
    square[i] = std::fabs(square[i]);
    absolute[i] = square[square.size() - 1 - i];
    fit[i] = square[i] + 0.2f;
  }
  const bool both = p.type == ggml::BlockType::kQ2_K;
  const GgmlSearch input{x.data(), square.data(), both ? absolute.data() : nullptr, both ? fit.data() : square.data()};
  std::vector<GgmlBlock> found(blocks);
  in_parts(blocks, [&](int64_t begin, int64_t end) { cpu.search(layer, input, found.data(), begin, end); });
  Results out;
  for (const GgmlBlock& block : found) {
    out["searched d"].push_back(block.d);
    out["searched dmin"].push_back(block.dmin);
    for (int i = 0; i < ggml_block_groups(layer); ++i) {
      out["searched scale code"].push_back(block.scale_code[i]);
      out["searched minimum code"].push_back(block.minimum_code[i]);
      out["searched scale"].push_back(block.scale[i]);
      out["searched minimum"].push_back(block.minimum[i]);
    }
  }
  return out;
}

// Calls body(problem) for every block type and element type.
template <typename Body>
void for_ggml_problems(const std::function<float(std::mt19937&, int64_t)>& fill, Body&& body) {
  uint32_t seed = 0;
  for (int type = 0; type < ggml::kBlockTypes; ++type)
    for (int way = 0; way < 3; ++way)
      for (bool tuned : {true, false})
        for (Element weight : {Element::kF32, Element::kF16, Element::kBF16})
          for (int round = 0; round < 3; ++round)
            body(
                make_ggml_problem(static_cast<ggml::BlockType>(type), way == 1, way == 2, tuned, weight, ++seed, fill));
}

}  // namespace roundhouse::kernels
