// SPDX-License-Identifier: Apache-2.0
// Inputs for the affine kernels, and all their results as floats by name.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/affine.h"
#include "kernels/floats.h"
#include "kernels/progressive.h"

namespace roundhouse::kernels {

inline const char* name_of(Element e) { return e == Element::kF32 ? "f32" : e == Element::kF16 ? "f16" : "bf16"; }

// Elements of any type, as bytes.
struct Elements {
  Element type;
  std::vector<uint8_t> bytes;

  Elements(Element type, size_t n) : type(type), bytes(n * (type == Element::kF32 ? 4 : 2)) {}
  Elements(Element type, const std::vector<float>& values) : Elements(type, values.size()) {
    for (size_t i = 0; i < values.size(); ++i) {
      if (type == Element::kF32)
        std::memcpy(&bytes[4 * i], &values[i], 4);
      else {
        const uint16_t bits = type == Element::kF16 ? half_from_float(values[i]) : bfloat_from_float(values[i]);
        std::memcpy(&bytes[2 * i], &bits, 2);
      }
    }
  }
  std::vector<float> values() const {
    std::vector<float> out(bytes.size() / (type == Element::kF32 ? 4 : 2));
    for (size_t i = 0; i < out.size(); ++i) {
      uint16_t bits;
      if (type == Element::kF32)
        std::memcpy(&out[i], &bytes[4 * i], 4);
      else {
        std::memcpy(&bits, &bytes[2 * i], 2);
        out[i] = type == Element::kF16 ? float_from_half(bits) : float_from_bfloat(bits);
      }
    }
    return out;
  }
};

inline float rounded(Element type, float x) { return Elements(type, std::vector<float>{x}).values()[0]; }

struct Shape {
  int64_t rows, cols, span_cols;
  bool whole_tensor;
};

// A row of 1, ragged groups, groups shorter than a vector, rows as groups, the whole tensor, more groups than lanes, long
// spans of whole eights.
inline const Shape kShapes[] = {{3, 96, 32, false}, {2, 130, 64, false},  {2, 200, 128, false}, {5, 1, 1, false},
                                {3, 21, 7, false},  {2, 77, 77, false},   {20, 50, 50, true},   {1, 33, 33, true},
                                {7, 95, 16, false}, {2, 520, 520, false}, {40, 24, 24, true}};

struct Problem {
  AffineLayer layer{};
  Elements weight{Element::kF32, 0}, gradient{Element::kF32, 0};
  std::vector<float> v, min_scale, max_scale;  // empty: plain rounding
  std::vector<float> outer_scale;              // [1], or empty
  std::vector<float> importance;               // [cols], or empty
  Element output = Element::kF32;

  AffineInput input(const float* low, const float* high) const {
    const auto data = [](const std::vector<float>& t) { return t.empty() ? nullptr : t.data(); };
    return {weight.bytes.data(), data(v), data(min_scale), data(max_scale), low, high, data(outer_scale)};
  }

  AffineSearch search() const { return {weight.bytes.data(), importance.empty() ? nullptr : importance.data()}; }

  std::string text() const {
    return std::to_string(layer.bits) + " bits " +
           (layer.mirrored    ? "mirrored "
            : layer.symmetric ? "sym "
                              : "asym ") +
           (outer_scale.empty() ? "" : "with outer scale ") + (importance.empty() ? "" : "with importance ") +
           (layer.tuned ? "tuned " : "plain ") + name_of(layer.weight) + " weight, " + name_of(layer.scale) +
           " scale, " + std::to_string(layer.rows) + "x" + std::to_string(layer.cols) + " in spans of " +
           std::to_string(layer.span_cols) + (layer.whole_tensor ? ", one group" : "");
  }
};

// `fill` gives the weights.
inline Problem make_problem(const Shape& shape, int bits, bool symmetric, bool tuned, Element weight, Element scale,
                            uint32_t seed, const std::function<float(std::mt19937&, int64_t)>& fill) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::uniform_real_distribution<float> unit(0.0f, 1.0f);
  Problem p;
  p.layer = {shape.rows, shape.cols, shape.span_cols, shape.whole_tensor,   symmetric, tuned,
             bits,       weight,     scale,           rounded(scale, 1e-5f)};
  p.layer.mirrored = symmetric && seed % 5 == 4;
  if (seed % 7 == 6) p.outer_scale = {0.37f};
  if (seed % 2 == 1) p.importance.resize(shape.cols);
  const unsigned zeros = seed % 16;  // of 16 channels
  for (float& x : p.importance) x = random() % 16 < zeros ? 0.0f : 3 * unit(random);
  const int64_t n = shape.rows * shape.cols;
  std::vector<float> w(n), g(n);
  for (int64_t i = 0; i < n; ++i) w[i] = fill(random, i);
  for (float& x : g) x = random() % 16 == 0 ? 0.0f : normal(random);
  p.weight = Elements(weight, w);
  p.gradient = Elements(static_cast<Element>(seed % 3), g);
  p.output = static_cast<Element>(seed / 3 % 3);
  if (tuned) {
    p.v.resize(affine_spans(p.layer) * shape.span_cols);
    p.min_scale.resize(affine_groups(p.layer));
    p.max_scale.resize(affine_groups(p.layer));
    for (float& x : p.v) x = unit(random) - 0.5f;
    for (float& x : p.min_scale) x = 0.5f + 0.5f * unit(random);
    for (float& x : p.max_scale) x = 0.5f + 0.5f * unit(random);
  }
  return p;
}

inline float gaussian(std::mt19937& random, int64_t) { return std::normal_distribution<float>(0.0f, 0.02f)(random); }

// All-zero groups, signed zeros, denormals, quotients halfway between codes, the largest numbers.
inline float hard(std::mt19937& random, int64_t i) {
  static const float kValues[] = {0.0f, -0.0f, 1e-40f, -1e-40f, 6e-8f, -6e-8f, 0.5f, -0.5f,
                                  1.5f, -2.5f, 7.0f,   -8.0f,   3e38f, -3e38f, 6e4f, -6e4f};
  switch (i / 64 % 4) {
    case 0:
      return random() % 2 ? 0.0f : -0.0f;
    case 1:
      return kValues[2 + random() % 4];
    case 2:
      return kValues[random() % 12];
    default:
      return kValues[random() % 16];
  }
}

inline bool may_search(const AffineLayer& layer) { return !layer.mirrored && !layer.whole_tensor && !layer.tuned; }
inline bool has_input_gradient(const Problem& p) {
  return !p.layer.whole_tensor && !p.layer.tuned && p.outer_scale.empty();
}

using Results = std::map<std::string, std::vector<float>>;

inline constexpr float kRoundingRate = 0.01f, kRangeRate = 0.005f;
inline constexpr float kProgressiveScale = 0.9f;  // some elements are clipped

// body(begin, end) for two parts of [0, spans): where a call begins is nothing to its results.
template <typename Body>
void in_parts(int64_t spans, Body&& body) {
  body(0, spans / 3);
  body(spans / 3, spans);
}

inline Results run_cpu(const AffineCpu& cpu, const Problem& p) {
  const AffineLayer& layer = p.layer;
  const int64_t n = layer.rows * layer.cols, spans = affine_spans(layer), groups = affine_groups(layer);
  Results out;
  std::vector<float> low(groups), high(groups), span_low(spans), span_high(spans);
  in_parts(spans, [&](int64_t begin, int64_t end) {
    cpu.range(layer, p.weight.bytes.data(), span_low.data(), span_high.data(), begin, end);
  });
  if (layer.whole_tensor)
    range_of_ranges(spans, span_low.data(), span_high.data(), low.data(), high.data());
  else
    low = span_low, high = span_high;
  out["low"] = low;
  out["high"] = high;
  const AffineInput input = p.input(low.data(), high.data());

  Elements qdq(p.output, n), scale(layer.scale, groups);
  std::vector<float> zero(groups), outer(1);
  float* const outer_out = p.outer_scale.empty() ? nullptr : outer.data();
  in_parts(spans, [&](int64_t begin, int64_t end) {
    cpu.forward(layer, input,
                {qdq.bytes.data(), p.output, scale.bytes.data(), layer.symmetric ? nullptr : zero.data(), outer_out},
                begin, end);
  });
  out["qdq"] = qdq.values();
  out["scale"] = scale.values();
  out["zero point"] = zero;
  out["outer scale"] = outer;

  std::vector<uint8_t> codes(n), zero_codes(groups);
  Elements code_scale(layer.scale, groups), decoded(p.output, n);
  const AffineCodes coded{codes.data(), code_scale.bytes.data(), layer.symmetric ? nullptr : zero_codes.data(),
                          outer_out};
  in_parts(spans, [&](int64_t begin, int64_t end) { cpu.encode(layer, input, coded, begin, end); });
  in_parts(spans,
           [&](int64_t begin, int64_t end) { cpu.decode(layer, coded, decoded.bytes.data(), p.output, begin, end); });
  out["codes"].assign(codes.begin(), codes.end());
  out["zero codes"].assign(zero_codes.begin(), zero_codes.end());
  out["code scale"] = code_scale.values();
  out["decoded"] = decoded.values();

  std::vector<AffineSums> sums(spans);
  const AffineGradient gradient{p.gradient.bytes.data(), p.gradient.type};
  std::vector<float> grad_v(spans * layer.span_cols, -1.0f), grad_min(groups), grad_max(groups);
  const AffineGradients gradients{grad_v.data(), grad_min.data(), grad_max.data()};
  in_parts(spans, [&](int64_t begin, int64_t end) {
    cpu.backward(layer, input, gradient, gradients, sums.data(), begin, end);
  });
  if (layer.whole_tensor) affine_finish_tensor(layer, input, sums.data(), gradients);
  out["grad v"] = grad_v;
  out["grad min_scale"] = grad_min;
  out["grad max_scale"] = grad_max;

  if (may_search(layer)) {
    std::vector<float> best_low = low, best_high = high;
    in_parts(spans, [&](int64_t begin, int64_t end) {
      cpu.search(layer, p.search(), best_low.data(), best_high.data(), begin, end);
    });
    out["searched low"] = best_low;
    out["searched high"] = best_high;
  }
  if (has_input_gradient(p)) {
    Elements grad_input(layer.weight, n);
    in_parts(spans, [&](int64_t begin, int64_t end) {
      cpu.input_gradient(layer, input, gradient, grad_input.bytes.data(), begin, end);
    });
    out["grad input"] = grad_input.values();
  }

  if (layer.whole_tensor) {
    Elements progressed(layer.weight, n);
    float progressive = 0;
    const AffineProgressive args{p.weight.bytes.data(),   low.data(),  high.data(), kProgressiveScale,
                                 progressed.bytes.data(), &progressive};
    progressive = progressive_scale(args);
    with_element(layer.weight, [&](auto weight) {
      for (int64_t i = 0; i < n; ++i) progressive_round<weight.value>(args, progressive, i);
    });
    out["progressive"] = progressed.values();
    out["progressive scale"] = {progressive};
  }

  if (!layer.tuned) return out;
  std::vector<float> v = p.v, min_scale = p.min_scale, max_scale = p.max_scale;
  const AffineStep step{v.data(), min_scale.data(), max_scale.data(), &kRoundingRate, &kRangeRate};
  const AffineInput stepped{p.weight.bytes.data(), v.data(),         min_scale.data(), max_scale.data(), low.data(),
                            high.data(),           input.outer_scale};
  in_parts(spans,
           [&](int64_t begin, int64_t end) { cpu.sign_step(layer, stepped, gradient, step, sums.data(), begin, end); });
  if (layer.whole_tensor) affine_finish_tensor(layer, stepped, sums.data(), step);
  out["v"] = v;
  out["min_scale"] = min_scale;
  out["max_scale"] = max_scale;
  return out;
}

// The first difference in words, or "". NaN equals NaN.
inline std::string difference(const Results& actual, const Results& expected) {
  for (const auto& [name, e] : expected) {
    const std::vector<float>& a = actual.at(name);
    if (a.size() != e.size()) return name + " has " + std::to_string(a.size()) + " elements";
    for (size_t i = 0; i < e.size(); ++i) {
      if (std::memcmp(&a[i], &e[i], 4) == 0 || (std::isnan(a[i]) && std::isnan(e[i]))) continue;
      char text[160];
      std::snprintf(text, sizeof text, "%s[%zu]: expected %.9g (%08x), actual %.9g (%08x)", name.c_str(), i, e[i],
                    float_bits(e[i]), a[i], float_bits(a[i]));
      return text;
    }
  }
  return "";
}

// Calls body(problem) for every bit width, kind, element type and shape.
template <typename Body>
void for_problems(const std::function<float(std::mt19937&, int64_t)>& fill, Body&& body) {
  uint32_t seed = 0;
  for (const Shape& shape : kShapes)
    for (int bits = 2; bits <= 8; ++bits)
      for (bool symmetric : {true, false})
        for (bool tuned : {true, false})
          for (Element weight : {Element::kF32, Element::kF16, Element::kBF16})
            for (Element scale : {Element::kF32, Element::kF16, Element::kBF16})
              body(make_problem(shape, bits, symmetric, tuned, weight, scale, ++seed, fill));
}

}  // namespace roundhouse::kernels
