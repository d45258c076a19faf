// SPDX-License-Identifier: Apache-2.0
// Inputs for the kernels of scaled small floats, and all their results as floats by name.
#pragma once

#include "kernels/cpu/scaled.h"
#include "kernels/scaled_math.h"
#include "tests/kernels/affine_problem.h"

namespace roundhouse::kernels {

struct ScaledKind {
  const char* name;
  SmallFloat element;
  ScaleRule rule;
  ElementSlope slope;
};

inline const ScaledKind kScaledKinds[] = {
    {"e4m3 ratio", e4m3(), ScaleRule::kRatio, ElementSlope::kOne},
    {"e5m2 ratio", e5m2(), ScaleRule::kRatio, ElementSlope::kOne},
    {"e4m3 unit", e4m3(), ScaleRule::kUnit, ElementSlope::kOne},
    {"e2m1 floor", e2m1(), ScaleRule::kFloor, ElementSlope::kExponent},
    {"e2m3 floor", e2m3(), ScaleRule::kFloor, ElementSlope::kExponent},
    {"e3m2 floor", e3m2(), ScaleRule::kFloor, ElementSlope::kExponent},
    {"e4m3 floor", e4m3(), ScaleRule::kFloor, ElementSlope::kExponent},
    {"e5m2 floor", e5m2(), ScaleRule::kFloor, ElementSlope::kExponent},
    {"int8 floor", int8(), ScaleRule::kFloor, ElementSlope::kNonzero},
    {"int4 floor", int4(), ScaleRule::kFloor, ElementSlope::kNonzero},
    {"int2 floor", int2(), ScaleRule::kFloor, ElementSlope::kNonzero},
    {"e2m1 ceil", e2m1(), ScaleRule::kCeil, ElementSlope::kExponent},
    {"e4m3 ceil", e4m3(), ScaleRule::kCeil, ElementSlope::kExponent},
    {"e2m1 nvfp4", e2m1(), ScaleRule::kNvfp4, ElementSlope::kNonzero},
    {"e2m1 ue5m3", e2m1(), ScaleRule::kUe5m3, ElementSlope::kNonzero},
};

struct ScaledShape {
  int64_t rows, cols, group_rows, span_cols;
};

// Whole and ragged groups, rows of 1, a tail of one element, groups shorter than a vector, blocks, the whole tensor,
// more groups than lanes.
inline const ScaledShape kScaledShapes[] = {{3, 96, 1, 32}, {2, 130, 1, 16}, {2, 33, 1, 32},   {5, 1, 1, 1},
                                            {3, 21, 1, 7},  {2, 77, 1, 77},  {9, 70, 4, 32},   {20, 50, 20, 50},
                                            {7, 95, 1, 16}, {3, 72, 1, 16},  {2, 520, 1, 520}, {9, 72, 4, 24}};

struct ScaledProblem {
  const char* kind = "";
  ScaledLayer layer{};
  Elements input{Element::kF32, 0}, gradient{Element::kF32, 0};
  std::vector<float> v, max_scale;  // empty: plain rounding
  std::vector<float> importance;
  Element output = Element::kF32;

  std::string text() const {
    return std::string(kind) + (v.empty() ? " plain " : " tuned ") + name_of(layer.input) + " " +
           std::to_string(layer.rows) + "x" + std::to_string(layer.cols) + " in groups of " +
           std::to_string(layer.group_rows) + "x" + std::to_string(layer.span_cols);
  }
};

inline ScaledProblem make_scaled_problem(const ScaledKind& kind, const ScaledShape& shape, bool tuned, Element input,
                                         uint32_t seed, const std::function<float(std::mt19937&, int64_t)>& fill) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::uniform_real_distribution<float> unit(0.0f, 1.0f);
  ScaledProblem p;
  p.kind = kind.name;
  ScaledLayer& layer = p.layer;
  layer.rows = shape.rows;
  layer.cols = shape.cols;
  layer.group_rows = shape.group_rows;
  layer.span_cols = shape.span_cols;
  layer.element = kind.element;
  layer.rule = kind.rule;
  layer.slope = kind.slope;
  layer.signed_zero = kind.slope != ElementSlope::kOne;
  layer.half_as_bfloat = !layer.signed_zero;
  layer.divisor = kind.element.max;
  layer.input = input;
  layer.arithmetic = !tuned && shape.group_rows > 1 ? input : Element::kF32;
  layer.scale = kind.rule == ScaleRule::kRatio ? static_cast<Element>(seed % 3) : Element::kF32;
  layer.smallest = rounded(layer.scale, 1e-5f);
  const int64_t n = shape.rows * shape.cols;
  std::vector<float> w(n), g(n);
  for (int64_t i = 0; i < n; ++i) w[i] = fill(random, i);
  for (float& x : g) x = random() % 16 == 0 ? 0.0f : normal(random);
  p.input = Elements(input, w);
  p.gradient = Elements(static_cast<Element>(seed % 3), g);
  p.output = static_cast<Element>(seed / 3 % 3);
  p.importance.resize(shape.cols);
  for (float& x : p.importance) x = random() % 4 == 0 ? 0.0f : unit(random);
  if (tuned) {
    p.v.resize(scaled_groups(layer) * layer.group_rows * layer.span_cols);
    p.max_scale.resize(scaled_groups(layer));
    for (float& x : p.v) x = unit(random) - 0.5f;
    for (float& x : p.max_scale) x = 0.5f + 0.5f * unit(random);
  }
  return p;
}

// The groups' scales in memory that encode() wrote: numbers for kRatio, whose NaN may have any bits, else codes.
inline std::vector<float> code_scales(const ScaledLayer& layer, const std::vector<float>& memory) {
  if (layer.rule != ScaleRule::kRatio) return memory;
  Elements out(layer.scale, memory.size());
  std::memcpy(out.bytes.data(), memory.data(), out.bytes.size());
  return out.values();
}

inline Results run_scaled_cpu(const ScaledCpu& cpu, const ScaledProblem& p) {
  const ScaledLayer& layer = p.layer;
  const int64_t n = layer.rows * layer.cols, spans = scaled_spans(layer), groups = scaled_groups(layer);
  Results out;
  std::vector<float> span_maximum(spans), maximum(groups), largest(1);
  in_parts(spans, [&](int64_t begin, int64_t end) {
    cpu.maximum(layer, p.input.bytes.data(), span_maximum.data(), begin, end);
  });
  scaled_group_maximum(layer, span_maximum.data(), maximum.data());
  largest[0] = largest_of(spans, span_maximum.data());
  out["maximum"] = maximum;
  out["largest"] = largest;
  const auto data = [](const std::vector<float>& t) { return t.empty() ? nullptr : t.data(); };
  ScaledInput input{p.input.bytes.data(), data(p.v), data(p.max_scale), maximum.data(), largest.data()};

  out["calibrated"] = {scaled_calibrated(layer, input)};

  Elements qdq(p.output, n), scale(layer.scale, groups);
  in_parts(spans, [&](int64_t begin, int64_t end) {
    cpu.forward(layer, input, {qdq.bytes.data(), p.output, scale.bytes.data(), layer.scale}, begin, end);
  });
  out["qdq"] = qdq.values();
  out["scale"] = scale.values();

  std::vector<uint8_t> codes(n);
  std::vector<float> code_scale(groups), global(1);
  Elements decoded(p.output, n);
  const ScaledCodes coded{codes.data(), code_scale.data(), layer.rule == ScaleRule::kNvfp4 ? global.data() : nullptr};
  in_parts(spans, [&](int64_t begin, int64_t end) { cpu.encode(layer, input, coded, begin, end); });
  in_parts(spans,
           [&](int64_t begin, int64_t end) { cpu.decode(layer, coded, decoded.bytes.data(), p.output, begin, end); });
  out["codes"].assign(codes.begin(), codes.end());
  out["code scale"] = code_scales(layer, code_scale);
  out["global scale"] = global;
  out["decoded"] = decoded.values();

  std::vector<ScaledSum> sums(spans);
  const OutputGradient gradient{p.gradient.bytes.data(), p.gradient.type};
  std::vector<float> grad_v(groups * layer.group_rows * layer.span_cols, -1.0f), grad_max(groups);
  const TunableGradients gradients{grad_v.data(), nullptr, grad_max.data()};
  in_parts(spans, [&](int64_t begin, int64_t end) {
    cpu.backward(layer, input, gradient, gradients, sums.data(), begin, end);
  });
  if (layer.group_rows > 1) scaled_finish_groups(layer, input, sums.data(), gradients);
  Elements grad_input(p.output, n);
  in_parts(spans, [&](int64_t begin, int64_t end) {
    cpu.input_gradient(layer, input, gradient, grad_input.bytes.data(), p.output, begin, end);
  });
  out["grad v"] = grad_v;
  out["grad max_scale"] = grad_max;
  out["grad input"] = grad_input.values();

  if (layer.group_rows == 1 && layer.span_cols <= kMaxSearchSpan && layer.rule >= ScaleRule::kFloor) {
    std::vector<float> found = maximum;
    in_parts(spans, [&](int64_t begin, int64_t end) {
      cpu.search(layer, input, {p.importance.data(), found.data()}, begin, end);
    });
    out["searched"] = found;
  }
  if (p.v.empty()) return out;
  std::vector<float> v = p.v, max_scale = p.max_scale;
  input.v = v.data();
  input.max_scale = max_scale.data();
  const TunableStep step{v.data(), nullptr, max_scale.data(), &kRoundingRate, &kRangeRate};
  in_parts(spans,
           [&](int64_t begin, int64_t end) { cpu.sign_step(layer, input, gradient, step, sums.data(), begin, end); });
  if (layer.group_rows > 1) scaled_finish_groups(layer, input, sums.data(), step);
  out["v"] = v;
  out["max_scale"] = max_scale;
  return out;
}

// Calls body(problem) for every kind, shape and element type, tuned and plain.
template <typename Body>
void for_scaled_problems(const std::function<float(std::mt19937&, int64_t)>& fill, Body&& body) {
  uint32_t seed = 0;
  for (const ScaledKind& kind : kScaledKinds)
    for (const ScaledShape& shape : kScaledShapes)
      for (bool tuned : {true, false})
        for (Element input : {Element::kF32, Element::kF16, Element::kBF16})
          body(make_scaled_problem(kind, shape, tuned, input, ++seed, fill));
}

}  // namespace roundhouse::kernels
