// SPDX-License-Identifier: Apache-2.0
// The hand-written gradients against libtorch's own, of the same formulas written out with its operators.
#include "host/model/ops.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <functional>
#include <map>

namespace roundhouse {
namespace {

at::Tensor leaf(const at::Tensor& x) { return x.detach().clone().set_requires_grad(true); }

at::Tensor gradient(const at::Tensor& y, const at::Tensor& x, const at::Tensor& dy) {
  return torch::autograd::grad({y}, {x}, {dy})[0];
}

struct Tolerance {
  at::ScalarType dtype;
  double value, gradient;
  friend std::ostream& operator<<(std::ostream& out, const Tolerance& t) { return out << t.dtype; }
};
// bfloat16 keeps 8 bits, and libtorch rounds the gradient between its operators.
constexpr Tolerance kTolerances[] = {{at::kFloat, 1e-6, 1e-5}, {at::kBFloat16, 0, 4e-2}};

class OpsTest : public testing::TestWithParam<Tolerance> {
 protected:
  OpsTest() {
    at::set_num_threads(1);
    at::manual_seed(3);
  }
  at::Tensor random(at::IntArrayRef shape) { return at::randn(shape).to(GetParam().dtype); }

  void expect_equal(const at::Tensor& ours, const at::Tensor& theirs, double tolerance) {
    EXPECT_EQ(ours.scalar_type(), theirs.scalar_type());
    EXPECT_LE((ours.to(at::kDouble) - theirs.to(at::kDouble)).abs().max().item<double>(), tolerance);
  }
};

TEST_P(OpsTest, RmsNorm) {
  const at::Tensor wide = random({3, 5, 80});
  expect_equal(rms_norm(wide.narrow(-1, 5, 70), at::ones({70}, wide.options()), 1e-5),
               rms_norm(wide.narrow(-1, 5, 70).contiguous(), at::ones({70}, wide.options()), 1e-5), 0);
  const at::Tensor data = random({3, 5, 70}), dy = random({3, 5, 70}), weight = random({70});
  const at::Tensor x = leaf(data), x2 = leaf(data);
  const at::Tensor f = x2.to(at::kFloat);
  const at::Tensor theirs = weight * (f * at::rsqrt(f.pow(2).mean(-1, true) + 1e-5)).to(x2.scalar_type());
  const at::Tensor ours = rms_norm(x, weight, 1e-5);
  expect_equal(ours, theirs, GetParam().value);
  expect_equal(gradient(ours, x, dy), gradient(theirs, x2, dy), GetParam().gradient);
}

TEST_P(OpsTest, Rotate) {
  const at::Tensor data = random({2, 5, 3, 16}), dy = random({2, 5, 3, 16});
  for (const int64_t dims : {16, 8}) {
    for (const bool interleaved : {false, true}) {
      const at::Tensor cos = random({5, 1, dims}), sin = random({5, 1, dims});
      const at::Tensor x = leaf(data), x2 = leaf(data);
      const at::Tensor turned = x2.narrow(-1, 0, dims), rest = x2.narrow(-1, dims, 16 - dims);
      const at::Tensor pairs = turned.unflatten(-1, {-1, 2});
      const at::Tensor swapped =
          interleaved ? at::stack({-pairs.select(-1, 1), pairs.select(-1, 0)}, -1).flatten(-2)
                      : at::cat({-turned.narrow(-1, dims / 2, dims / 2), turned.narrow(-1, 0, dims / 2)}, -1);
      const at::Tensor theirs = at::cat({turned * cos + swapped * sin, rest}, -1);
      const at::Tensor ours = rotate(x, cos, sin, interleaved);
      expect_equal(ours, theirs, GetParam().value);
      expect_equal(gradient(ours, x, dy), gradient(theirs, x2, dy), GetParam().gradient);
    }
  }
}

TEST_P(OpsTest, SoftCap) {
  const at::Tensor data = random({7, 10000}), dy = random({7, 10000});
  const at::Tensor x = leaf(data), x2 = leaf(data);
  const at::Tensor ours = soft_cap(x, 1.5), theirs = at::tanh(x2 / 1.5) * 1.5;
  expect_equal(ours, theirs, GetParam().value);
  expect_equal(gradient(ours, x, dy), gradient(theirs, x2, dy), GetParam().gradient);
}

TEST_P(OpsTest, Xielu) {
  const auto parameter = [&](double value) { return at::full({}, value, at::TensorOptions(GetParam().dtype)); };
  const Xielu xielu{parameter(0.8), parameter(0.75), parameter(0.5), parameter(-0.25)};
  const at::Tensor data = random({7, 10000}), dy = random({7, 10000});
  const at::Tensor x = leaf(data), x2 = leaf(data);
  const at::Tensor theirs = at::where(x2 > 0, xielu.alpha_p * x2 * x2 + xielu.beta * x2,
                                      (at::expm1(at::minimum(x2, xielu.eps)) - x2) * xielu.alpha_n + xielu.beta * x2);
  const at::Tensor ours = activate(xielu, x);
  expect_equal(ours, theirs, GetParam().value);
  const at::Tensor expected = gradient(theirs, x2, dy);
  // It has more operators than others, and larger gradients.
  expect_equal(gradient(ours, x, dy), expected, 2 * GetParam().gradient * expected.abs().max().item<double>());
}

// libtorch's activation, and the one under test. Long enough for several slices.
const std::pair<Activation, std::function<at::Tensor(const at::Tensor&)>> kActivations[] = {
    {Activation::kSilu, [](const at::Tensor& x) { return at::silu(x); }},
    {Activation::kGelu, [](const at::Tensor& x) { return at::gelu(x); }},
    {Activation::kGeluTanh, [](const at::Tensor& x) { return at::gelu(x, "tanh"); }},
    {Activation::kRelu, [](const at::Tensor& x) { return at::relu(x); }},
    {Activation::kSquaredRelu, [](const at::Tensor& x) { return at::relu(x).square(); }},
    {Activation::kSigmoid, [](const at::Tensor& x) { return at::sigmoid(x); }},
    {Activation::kSoftplus, [](const at::Tensor& x) { return at::softplus(x); }},
    {Activation::kExp, [](const at::Tensor& x) { return at::exp(x); }},
};

TEST_P(OpsTest, Activate) {
  const at::Tensor data = random({7, 10000}), dy = random({7, 10000});
  for (const auto& [activation, theirs_of] : kActivations) {
    const at::Tensor x = leaf(data), x2 = leaf(data);
    const at::Tensor ours = activate(activation, x), theirs = theirs_of(x2);
    expect_equal(ours, theirs, GetParam().value);
    expect_equal(gradient(ours, x, dy), gradient(theirs, x2, dy), GetParam().gradient);
  }
}

TEST_P(OpsTest, ActivateAndMultiply) {
  const at::Tensor gate_data = random({7, 10000}), up_data = random({7, 10000}), dy = random({7, 10000});
  for (const auto& [activation, theirs_of] : kActivations) {
    const at::Tensor gate = leaf(gate_data), up = leaf(up_data), gate2 = leaf(gate_data), up2 = leaf(up_data);
    const at::Tensor ours = activate_and_multiply(activation, gate, up), theirs = theirs_of(gate2) * up2;
    expect_equal(ours, theirs, GetParam().value);
    const auto d_ours = torch::autograd::grad({ours}, {gate, up}, {dy});
    const auto d_theirs = torch::autograd::grad({theirs}, {gate2, up2}, {dy});
    expect_equal(d_ours[0], d_theirs[0], GetParam().gradient);
    expect_equal(d_ours[1], d_theirs[1], GetParam().gradient);
  }
}

// The same bits as of whole tensors, of many slices and of one, with each number of threads.
TEST_P(OpsTest, ExpertSums) {
  constexpr int64_t kTopK = 3;
  for (const auto& [tokens, features] : {std::pair<int64_t, int64_t>{1, 40}, {500, 700}}) {
    const at::Tensor pairs = at::randperm(tokens * kTopK), dy = random({tokens, features});
    const at::Tensor data = random({tokens * kTopK, features});
    for (const at::Tensor& weight_data : {at::rand({tokens * kTopK, 1}), random({tokens * kTopK, 1}), at::Tensor()}) {
      const bool weighed = weight_data.defined();
      const at::Tensor rows2 = leaf(data), weights2 = weighed ? leaf(weight_data) : at::Tensor();
      const at::Tensor of_tokens = (weighed ? rows2 * weights2 : rows2).index_select(0, pairs.argsort());
      const auto parts = of_tokens.unflatten(0, {-1, kTopK}).unbind(1);
      const at::Tensor theirs = (parts[0] + parts[1] + parts[2]).to(rows2.scalar_type());
      const auto inputs = [&](const at::Tensor& rows, const at::Tensor& weights) {
        return weighed ? std::vector<at::Tensor>{rows, weights} : std::vector<at::Tensor>{rows};
      };
      const auto d_theirs = torch::autograd::grad({theirs}, inputs(rows2, weights2), {dy});
      for (const int threads : {1, 3}) {
        at::set_num_threads(threads);
        const at::Tensor rows = leaf(data), weights = weighed ? leaf(weight_data) : at::Tensor();
        const at::Tensor ours = expert_sums(rows, weights, pairs, kTopK);
        expect_equal(ours, theirs, 0);
        const auto d_ours = torch::autograd::grad({ours}, inputs(rows, weights), {dy});
        for (size_t i = 0; i < d_ours.size(); ++i) expect_equal(d_ours[i], d_theirs[i], 0);
      }
      at::set_num_threads(1);
    }
  }
}

// at::silu fails this with 3 threads.
TEST_P(OpsTest, BitsDoNotDependOnTheThreads) {
  const at::Tensor gate = leaf(random({3, 43691})), up = random({3, 43691});
  for (const auto& [activation, theirs_of] : kActivations) {
    std::vector<at::Tensor> first;
    for (const int threads : {1, 2, 3, 5}) {
      at::set_num_threads(threads);
      const at::Tensor y = activate_and_multiply(activation, gate, up);
      const std::vector<at::Tensor> results{y.detach(), gradient(y, gate, up), activate(activation, gate).detach()};
      if (first.empty()) first = results;
      for (size_t i = 0; i < results.size(); ++i) EXPECT_TRUE(at::equal(results[i], first[i])) << threads << " " << i;
    }
  }
  at::set_num_threads(1);
}

TEST_P(OpsTest, RoundRows) {
  for (const auto& [rows, round] :
       std::map<int64_t, int64_t>{{1, 8}, {8, 8}, {9, 16}, {71, 72}, {129, 144}, {144, 144}, {1025, 1152}}) {
    const at::Tensor x = leaf(random({rows, 3})), y = with_round_rows(x);
    ASSERT_EQ(y.size(0), GetParam().dtype == at::kBFloat16 ? round : rows);
    EXPECT_TRUE(at::equal(y.narrow(0, 0, rows), x));
    EXPECT_FALSE(y.narrow(0, rows, y.size(0) - rows).any().item<bool>());
    const at::Tensor dy = random(y.sizes());
    EXPECT_TRUE(at::equal(gradient(y, x, dy), dy.narrow(0, 0, rows)) || y.is_same(x));
  }
}

TEST_P(OpsTest, HookedLinear) {
  for (const int64_t rows : {1, 5, 8, 131}) {
    const at::Tensor x = leaf(random({rows, 32})), weight = random({16, 32}), bias = random({16}),
                     dy = random({rows, 16});
    at::Tensor got_x, got_dy;
    const at::Tensor y = hooked_linear(x, weight, bias, [&](const at::Tensor& x, const at::Tensor& dy) {
      got_x = x;
      got_dy = dy;
    });
    const at::Tensor theirs = at::linear(x, weight, bias);
    EXPECT_EQ(y.sizes(), theirs.sizes());
    const double size = theirs.detach().abs().max().item<double>() + 1;
    expect_equal(y.detach(), theirs.detach(), size * GetParam().gradient);
    expect_equal(gradient(y, x, dy), gradient(theirs, x, dy), 16 * GetParam().gradient);
    EXPECT_TRUE(at::equal(got_x, x) && at::equal(got_dy, dy));
  }
}

INSTANTIATE_TEST_SUITE_P(, OpsTest, testing::ValuesIn(kTolerances),
                         [](const auto& info) { return std::string(at::toString(info.param.dtype)); });

}  // namespace
}  // namespace roundhouse
