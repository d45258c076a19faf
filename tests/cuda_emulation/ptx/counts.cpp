// SPDX-License-Identifier: Apache-2.0
// Counts what a warp issues for the kernels of an iteration, forward and sign step of bfloat16 weights. Lines of
// "scheme<tab>pass<tab>instruction<tab>times per weight"; counts.py weighs them.
#include <gtest/gtest.h>

#include <cstdio>

#include "kernels/cuda/affine.h"
#include "kernels/cuda/block.h"
#include "kernels/cuda/ggml.h"
#include "kernels/cuda/scaled.h"
#include "tests/cuda_emulation/ptx/ptx_instructions.h"
#include "tests/kernels/ggml_problem.h"
#include "tests/kernels/on_device.h"
#include "tests/kernels/scaled_problem.h"

namespace roundhouse::kernels {
namespace {

constexpr Element kType = Element::kBF16;
constexpr uint32_t kSeed = 8;  // the problems of this one have gradients and results in bfloat16
constexpr int64_t kRows = 16, kCols = 4096;

// What an instruction is issued for: the lanes of a warp.
template <typename Run>
void count(const char* scheme, const char* pass, int64_t weights, Run&& run) {
  cuda_emulation::ptx::take_counts();
  cuda_emulation::ptx::counting = true;
  check(run());
  cuda_emulation::ptx::counting = false;
  for (const auto& [instruction, times] : cuda_emulation::ptx::take_counts())
    std::printf("%s\t%s\t%s\t%.6f\n", scheme, pass, instruction.c_str(),
                static_cast<double>(times) * cuda_emulation::kWarp / static_cast<double>(weights));
}

const OnDevice<float>& rates() {
  static const OnDevice<float> values(std::vector<float>{kRoundingRate, kRangeRate});
  return values;
}

void count_int(const char* scheme, int bits, int64_t span_cols) {
  const Problem p =
      make_problem({kRows, kCols, span_cols, false}, bits, true, true, kType, Element::kF16, kSeed, gaussian);
  const int64_t n = kRows * kCols, groups = affine_groups(p.layer);
  const AffineCuda cuda{0, nullptr};
  const OnDevice<uint8_t> weight(p.weight.bytes), gradient(p.gradient.bytes), qdq(zero_bytes(kType, n));
  OnDevice<float> v(p.v), min_scale(p.min_scale), max_scale(p.max_scale), low(zeros(groups)), high(zeros(groups));
  check(cuda.range(p.layer, weight.data(), low.data(), high.data(), nullptr));
  const AffineInput input{weight.data(), v.data(), min_scale.data(), max_scale.data(), low.data(), high.data()};
  count(scheme, "forward", n, [&] { return cuda.forward(p.layer, input, {qdq.data(), kType, nullptr, nullptr}); });
  count(scheme, "step", n, [&] {
    return cuda.sign_step(p.layer, input, {gradient.data(), kType},
                          {v.data(), min_scale.data(), max_scale.data(), rates().data(), rates().data() + 1}, nullptr);
  });
}

void count_scaled(const char* scheme, const char* kind, int64_t span_cols) {
  const auto found = std::find_if(std::begin(kScaledKinds), std::end(kScaledKinds),
                                  [&](const ScaledKind& one) { return one.name == std::string(kind); });
  const ScaledProblem p = make_scaled_problem(*found, {kRows, kCols, 1, span_cols}, true, kType, kSeed, gaussian);
  const int64_t n = kRows * kCols, groups = scaled_groups(p.layer);
  const ScaledCuda cuda{0, nullptr};
  const OnDevice<uint8_t> weight(p.input.bytes), gradient(p.gradient.bytes), qdq(zero_bytes(kType, n));
  OnDevice<float> v(p.v), max_scale(p.max_scale), maximum(zeros(groups)), largest(zeros(1)), workspace(zeros(groups));
  check(cuda.maximum(p.layer, weight.data(), maximum.data(), nullptr));
  check(cuda.largest(groups, maximum.data(), largest.data(), workspace.data()));
  const ScaledInput input{weight.data(), v.data(), max_scale.data(), maximum.data(), largest.data()};
  count(scheme, "forward", n, [&] { return cuda.forward(p.layer, input, {qdq.data(), kType, nullptr, kType}); });
  count(scheme, "step", n, [&] {
    return cuda.sign_step(p.layer, input, {gradient.data(), kType},
                          {v.data(), nullptr, max_scale.data(), rates().data(), rates().data() + 1}, nullptr);
  });
}

void count_ggml(const char* scheme, ggml::BlockType type) {
  GgmlProblem p = make_ggml_problem(type, false, false, true, kType, kSeed, gaussian);
  const int64_t n = p.layer.rows * p.layer.cols, groups = ggml_groups(p.layer);
  const GgmlCuda cuda{0, nullptr};
  const OnDevice<uint8_t> weight(p.weight.bytes), gradient(p.gradient.bytes), qdq(zero_bytes(kType, n));
  OnDevice<float> v(p.v), min_scale(p.min_scale), max_scale(p.max_scale), low(zeros(groups)), high(zeros(groups));
  check(cuda.range(p.layer, weight.data(), low.data(), high.data()));
  GgmlInput input = p.input(low.data(), high.data());
  input.weight = weight.data();
  input.v = v.data();
  input.min_scale = min_scale.data();
  input.max_scale = max_scale.data();
  count(scheme, "forward", n, [&] {
    return cuda.forward(p.layer, input, {qdq.data(), kType, nullptr, nullptr, nullptr, nullptr, nullptr});
  });
  count(scheme, "step", n, [&] {
    return cuda.sign_step(p.layer, input, {gradient.data(), kType},
                          {v.data(), min_scale.data(), max_scale.data(), rates().data(), rates().data() + 1});
  });
}

// For an element of the block's activations.
void count_block() {
  const Queue queue{0, nullptr};
  const int64_t n = kRows * kCols, heads = 32, size = kCols / heads;
  const auto random = [](int64_t count) {
    std::mt19937 generator(kSeed);
    std::vector<float> values(count);
    for (int64_t i = 0; i < count; ++i) values[i] = gaussian(generator, i);
    return Elements(kType, values).bytes;
  };
  const OnDevice<uint8_t> a(random(n)), b(random(n)), c(random(n)), x(zero_bytes(kType, n)), y(zero_bytes(kType, n));
  const OnDevice<uint8_t> mask(std::vector<uint8_t>(kRows, 1)), cos(random(kRows * size)), sin(random(kRows * size));
  const OnDevice<float> sums(zeros(kRows));
  const BlockKernels& kernels = block_cuda();
  count("silu times up", "forward", n,
        [&] { return kernels.silu_multiply(queue, kType, n, a.data(), b.data(), y.data()); });
  count("silu times up", "backward", n, [&] {
    return kernels.silu_multiply_backward(queue, kType, n, c.data(), a.data(), b.data(), x.data(), y.data());
  });
  const Rotation rotation{kRows, heads, size, kRows, size, false, false};
  count("rotary positions", "forward", n,
        [&] { return kernels.rotate(queue, kType, rotation, a.data(), cos.data(), sin.data(), y.data()); });
  count("loss and gradient", "forward", n, [&] {
    return kernels.squared_error(queue, kType, kRows, kCols, a.data(), b.data(), mask.data(), 0.5f, nullptr, y.data(),
                                 sums.data());
  });
}

}  // namespace
}  // namespace roundhouse::kernels

int main() {
  using namespace roundhouse;
  kernels::count_block();
  kernels::count_int("int4, groups of 128", 4, 128);
  kernels::count_int("int4, groups of 32", 4, 32);
  kernels::count_int("int8, rows", 8, kernels::kCols);
  kernels::count_scaled("fp8 e4m3, rows", "e4m3 ratio", kernels::kCols);
  kernels::count_scaled("mxfp4", "e2m1 floor", 32);
  kernels::count_scaled("mxfp8", "e4m3 floor", 32);
  kernels::count_scaled("nvfp4", "e2m1 nvfp4", 16);
  kernels::count_ggml("q4_0", ggml::BlockType::kQ4_0);
  kernels::count_ggml("q5_1", ggml::BlockType::kQ5_1);
  kernels::count_ggml("q8_0", ggml::BlockType::kQ8_0);
  kernels::count_ggml("q2_k", ggml::BlockType::kQ2_K);
  kernels::count_ggml("q4_k", ggml::BlockType::kQ4_K);
  kernels::count_ggml("q6_k", ggml::BlockType::kQ6_K);
}
