// Every instruction set against the scalar kernels of ggml's blocks, bit for bit.
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/ggml.h"

namespace roundhouse::kernels {
namespace {

struct Shape {
  int32_t bits, block_cols, group_cols, super_bits;
  bool symmetric, positive;
};

constexpr Shape kShapes[] = {{4, 32, 32, 0, true, false},   {5, 32, 32, 0, false, false}, {8, 32, 32, 0, true, true},
                             {2, 256, 16, 4, false, false}, {3, 256, 16, 6, true, false}, {5, 256, 32, 6, false, false},
                             {6, 256, 16, 8, true, false}};
constexpr int64_t kRows = 5, kCols = 512;

struct Results {
  std::vector<float> floats;
  std::vector<uint16_t> halves;
  std::vector<uint8_t> codes;
};

// Everything that a target computes for a random weight.
Results run(const GgmlCpu& target, GgmlLayer layer, uint32_t seed) {
  const int64_t n = layer.rows * layer.cols, groups = ggml_groups(layer), blocks = ggml_blocks(layer);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, 0.02f);
  std::uniform_real_distribution<float> unit(0.0f, 1.0f);
  std::vector<uint16_t> weight(n);
  std::vector<float> v(n), gradient(n), min_scale(groups), max_scale(groups), low(groups), high(groups), qdq(n);
  for (int64_t i = 0; i < n; ++i) {
    // A block of zeros, one of one sign, one of magnitudes that float16 scales lose.
    const float w = i < 256 ? 0.0f : i < 512 ? std::fabs(normal(random)) : normal(random) * (i < 768 ? 1e-5f : 1.0f);
    weight[i] = bfloat_from_float(w);
    v[i] = unit(random) - 0.5f;
    gradient[i] = normal(random);
  }
  for (int64_t i = 0; i < groups; ++i) {
    min_scale[i] = 0.5f + 0.5f * unit(random);
    max_scale[i] = 0.5f + 0.5f * unit(random);
  }
  layer.weight = Element::kBF16;
  target.range(layer, weight.data(), low.data(), high.data(), 0, blocks);
  GgmlInput input{};
  input.weight = weight.data();
  input.v = v.data();
  input.min_scale = min_scale.data();
  input.max_scale = max_scale.data();
  input.low = low.data();
  input.high = high.data();

  Results out;
  std::vector<float> scale(groups), minimum(groups), d(blocks), dmin(blocks), zero(groups), grad_v(n), grad_min(groups),
      grad_max(groups);
  std::vector<uint16_t> halves(n);
  const GgmlOutput as_float{qdq.data(), Element::kF32, scale.data(), minimum.data(),
                            d.data(),   dmin.data(),   zero.data()};
  GgmlOutput as_half{};
  as_half.qdq = halves.data();
  as_half.qdq_type = Element::kBF16;
  target.forward(layer, input, as_float, 0, blocks);
  target.forward(layer, input, as_half, 0, blocks);
  target.backward(layer, input, {gradient.data(), Element::kF32}, {grad_v.data(), grad_min.data(), grad_max.data()}, 0,
                  blocks);
  out.codes.resize(n);
  for (int64_t i = 0; i < blocks; ++i) {
    GgmlBlock block;
    target.codes(layer, input, i, out.codes.data() + i * layer.block_cols, block);
  }
  const float rates[] = {0.01f, 0.005f};
  target.sign_step(layer, input, {gradient.data(), Element::kF32},
                   {v.data(), min_scale.data(), max_scale.data(), &rates[0], &rates[1]}, 0, blocks);
  out.halves = halves;
  for (const auto* part : {&low, &high, &qdq, &scale, &minimum, &d, &dmin, &zero, &grad_v, &grad_min, &grad_max, &v,
                           &min_scale, &max_scale})
    out.floats.insert(out.floats.end(), part->begin(), part->end());
  return out;
}

TEST(GgmlCpu, EveryTargetEqualsScalar) {
  for (const GgmlCpu* target : ggml_cpu_targets()) {
    for (const Shape& shape : kShapes) {
      for (bool reference : {false, true}) {
        const GgmlLayer layer{kRows,
                              kCols,
                              shape.bits,
                              shape.block_cols,
                              shape.group_cols,
                              shape.super_bits,
                              shape.symmetric,
                              shape.positive,
                              reference,
                              false,
                              Element::kBF16,
                              Element::kF32,
                              1e-8f};
        const Results expected = run(*ggml_cpu_targets().front(), layer, 3), actual = run(*target, layer, 3);
        const std::string what = std::string(target->name) + ", " + std::to_string(shape.bits) + " bits in " +
                                 std::to_string(shape.block_cols) + (reference ? ", reference" : "");
        EXPECT_EQ(expected.codes, actual.codes) << what;
        EXPECT_EQ(expected.halves, actual.halves) << what;
        for (size_t i = 0; i < expected.floats.size(); ++i)
          ASSERT_EQ(float_bits(expected.floats[i]), float_bits(actual.floats[i])) << what << ", value " << i;
      }
    }
  }
}

}  // namespace
}  // namespace roundhouse::kernels
