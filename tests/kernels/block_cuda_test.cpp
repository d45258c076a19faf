// SPDX-License-Identifier: Apache-2.0
// The CUDA kernels of a block's element-wise parts against their formulas, rounding by rounding. exp() and sums differ in
// the last bits.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <random>

#include "kernels/cuda/block.h"
#include "tests/kernels/on_device.h"

namespace roundhouse::kernels {
namespace {

constexpr Queue kQueue{0, nullptr};
constexpr Element kTypes[] = {Element::kF32, Element::kF16, Element::kBF16};

// A step of the type at 1, for what was computed with another exp().
float step(Element type) { return type == Element::kF32 ? 0x1p-21f : type == Element::kF16 ? 0x1p-10f : 0x1p-7f; }

std::string text_of(Element type, int64_t n, bool aligned) {
  const char* const names[] = {"f32", "f16", "bf16"};
  return std::string(names[static_cast<int>(type)]) + ", " + std::to_string(n) + (aligned ? "" : ", not aligned");
}

class BlockCudaTest : public CudaTest {
 protected:
  std::vector<float> random(Element type, int64_t n, float size = 3.0f) {
    std::normal_distribution<float> normal(0.0f, size);
    std::vector<float> values(n);
    for (float& value : values) value = normal(random_);
    return Elements(type, values).values();
  }

 private:
  std::mt19937 random_{7};
};

// On the device, 16 bytes from where memory begins, or one element, so that nothing is aligned.
class Placed {
 public:
  Placed(Element type, const std::vector<float>& values, bool aligned = true)
      : type_(type), skipped_(aligned ? 8 : 1), bytes_(shifted(type, values, skipped_).bytes) {}
  Placed(Element type, int64_t n, bool aligned = true) : Placed(type, std::vector<float>(n, 77.0f), aligned) {}
  void* data() const { return bytes_.data() + skipped_ * (type_ == Element::kF32 ? 4 : 2); }
  std::vector<float> values() const {
    std::vector<float> all = elements(type_, bytes_);
    for (int64_t i = 0; i < skipped_; ++i) EXPECT_EQ(all[i], 55.0f);
    return {all.begin() + skipped_, all.end()};
  }

 private:
  static Elements shifted(Element type, const std::vector<float>& values, int64_t by) {
    std::vector<float> all(by, 55.0f);
    all.insert(all.end(), values.begin(), values.end());
    return {type, all};
  }
  Element type_;
  int64_t skipped_;
  OnDevice<uint8_t> bytes_;
};

void expect_near(const std::vector<float>& found, const std::vector<float>& expected, float relative,
                 const std::string& what) {
  ASSERT_EQ(found.size(), expected.size()) << what;
  for (size_t i = 0; i < found.size(); ++i) {
    if (std::isnan(expected[i]) ? std::isnan(found[i]) : found[i] == expected[i]) continue;
    ASSERT_NEAR(found[i], expected[i], relative * std::max(std::fabs(expected[i]), 1e-3f)) << what << ", element " << i;
  }
}

TEST_F(BlockCudaTest, SiluTimesUpAndItsGradients) {
  for (const Element type : kTypes)
    for (const bool aligned : {true, false})
      for (const int64_t n : {1, 8, 1000, 4096}) {
        std::vector<float> gate = random(type, n), up = random(type, n), dy = random(type, n);
        gate[0] = n > 8 ? -200.0f : gate[0];  // exp() is infinite
        if (n == 4096) gate[1] = std::numeric_limits<float>::quiet_NaN(), gate[2] = 200.0f, gate[3] = 0.0f;
        std::vector<float> y(n), d_gate(n), d_up(n);
        for (int64_t i = 0; i < n; ++i) {
          const float sigmoid = 1.0f / (1.0f + std::exp(-gate[i]));
          const float silu = rounded(type, gate[i] / (1.0f + std::exp(-gate[i])));
          y[i] = rounded(type, silu * up[i]);
          d_gate[i] = rounded(type, rounded(type, dy[i] * up[i]) * sigmoid * (1.0f + gate[i] * (1.0f - sigmoid)));
          d_up[i] = rounded(type, silu * dy[i]);
        }
        const Placed on_gate(type, gate, aligned), on_up(type, up, aligned), on_dy(type, dy, aligned);
        const Placed to_y(type, n, aligned), to_gate(type, n, aligned), to_up(type, n, aligned);
        check(block_cuda().silu_multiply(kQueue, type, n, on_gate.data(), on_up.data(), to_y.data()));
        check(block_cuda().silu_multiply_backward(kQueue, type, n, on_dy.data(), on_gate.data(), on_up.data(),
                                                  to_gate.data(), to_up.data()));
        // Where 1 + gate (1 - sigmoid) is near 0, the error is that of its parts.
        const std::string what = text_of(type, n, aligned);
        expect_near(to_y.values(), y, 2 * step(type), "y, " + what);
        expect_near(to_up.values(), d_up, 2 * step(type), "gradient of up, " + what);
        const std::vector<float> found = to_gate.values();
        for (int64_t i = 0; i < n; ++i)
          if (!(std::isnan(d_gate[i]) && std::isnan(found[i]))) {
            ASSERT_NEAR(found[i], d_gate[i], step(type) * (std::fabs(d_gate[i]) + std::fabs(dy[i] * up[i])))
                << what << ", element " << i;
          }
      }
}

TEST_F(BlockCudaTest, RotatesAndBack) {
  struct Case {
    int64_t size, dims;
    bool interleaved;
  };
  const int64_t kBatch = 2, kPositions = 5, kHeads = 3;
  for (const Element type : kTypes)
    for (const Case& c : {Case{16, 16, false}, Case{16, 16, true}, Case{12, 4, false}, Case{12, 6, true}})
      for (const bool back : {false, true}) {
        const int64_t tokens = kBatch * kPositions;
        const std::vector<float> x = random(type, tokens * kHeads * c.size);
        const std::vector<float> cos = random(type, kPositions * c.dims, 1.0f),
                                 sin = random(type, kPositions * c.dims, 1.0f);
        std::vector<float> y = x;
        for (int64_t token = 0; token < tokens; ++token)
          for (int64_t head = 0; head < kHeads; ++head)
            for (int64_t pair = 0; pair < c.dims / 2; ++pair) {
              const int64_t first = c.interleaved ? 2 * pair : pair,
                            second = c.interleaved ? first + 1 : first + c.dims / 2;
              const int64_t at = (token * kHeads + head) * c.size, angle = token % kPositions * c.dims;
              const auto product = [&](int64_t value, const std::vector<float>& factor, int64_t which) {
                return rounded(type, x[at + value] * factor[angle + which]);
              };
              // The transposed rotation: each feature's own sine goes with it to the other.
              y[at + first] = back ? rounded(type, product(first, cos, first) + product(second, sin, second))
                                   : rounded(type, product(first, cos, first) - product(second, sin, first));
              y[at + second] = back ? rounded(type, product(second, cos, second) - product(first, sin, first))
                                    : rounded(type, product(second, cos, second) + product(first, sin, second));
            }
        const Placed from(type, x), by_cos(type, cos), by_sin(type, sin), to(type, x.size());
        check(block_cuda().rotate(kQueue, type, {tokens, kHeads, c.size, kPositions, c.dims, c.interleaved, back},
                                  from.data(), by_cos.data(), by_sin.data(), to.data()));
        expect_near(to.values(), y, 0,
                    text_of(type, c.size, true) + (c.interleaved ? ", interleaved" : "") + (back ? ", back" : ""));
      }
}

TEST_F(BlockCudaTest, SquaredErrorAndItsGradient) {
  for (const Element type : kTypes)
    for (const bool aligned : {true, false})
      for (const int64_t cols : {1, 33, 256, 1000})
        for (const bool limited : {false, true}) {
          const int64_t rows = 9;
          const float scale = 0.37f, limit = 4.0f;
          std::vector<float> prediction = random(type, rows * cols), target = random(type, rows * cols);
          prediction[3 * cols] = std::numeric_limits<float>::infinity();  // in a row that counts not
          target[5 * cols] = std::numeric_limits<float>::quiet_NaN();
          const std::vector<uint8_t> mask{1, 1, 0, 0, 1, 1, 1, 255, 0};
          std::vector<float> gradient(rows * cols), sums(rows);
          for (int64_t i = 0; i < rows * cols; ++i) {
            float d = prediction[i] - target[i];
            if (!mask[i / cols] || (limited && std::isfinite(d) && std::fabs(d) > limit)) d = 0;
            gradient[i] = rounded(type, d * scale);
            sums[i / cols] += d * d;
          }
          const Placed from(type, prediction, aligned), to(type, target, aligned), out(type, rows * cols, aligned);
          const OnDevice<uint8_t> counts(mask);
          const OnDevice<float> most(std::vector<float>{limit}), found(zeros(rows));
          check(block_cuda().squared_error(kQueue, type, rows, cols, from.data(), to.data(), counts.data(), scale,
                                           limited ? most.data() : nullptr, out.data(), found.data()));
          const std::string what = text_of(type, cols, aligned) + (limited ? ", limited" : "");
          expect_near(out.values(), gradient, 0, "gradient, " + what);
          expect_near(found.host(), sums, 1e-5f, "sums, " + what);
        }
}

TEST_F(BlockCudaTest, KeepsTheBestWhereItImproved) {
  for (const bool improved : {true, false})
    for (const int64_t n : {1, 77, 4096}) {
      const std::vector<float> now = random(Element::kF32, n), before = random(Element::kF32, n);
      const Placed from(Element::kF32, now, n != 77), best(Element::kF32, before, n != 77);
      const OnDevice<uint8_t> flag(std::vector<uint8_t>{improved});
      check(block_cuda().keep_best(kQueue, n, reinterpret_cast<const bool*>(flag.data()),
                                   static_cast<const float*>(from.data()), static_cast<float*>(best.data())));
      EXPECT_EQ(best.values(), improved ? now : before) << n;
    }
}

}  // namespace
}  // namespace roundhouse::kernels
