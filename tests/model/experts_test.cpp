// SPDX-License-Identifier: Apache-2.0
// A mixture of experts alone. decoder_test has whole models of every family.
#include "host/model/experts.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <map>
#include <string>

namespace roundhouse {
namespace {

using testing::ElementsAre;

std::vector<int64_t> experts_of(const Routing& routing, int64_t token) {
  const at::Tensor row = std::get<0>(routing.experts[token].sort());
  return {row.const_data_ptr<int64_t>(), row.const_data_ptr<int64_t>() + row.numel()};
}

// The weight of an expert for the first token, 0 if it is not chosen.
double weight_of(const Routing& routing, int64_t expert) {
  return routing.weights[0].masked_select(routing.experts[0] == expert).sum().item<double>();
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

RouterInfo router(RouterInfo::Scores scores, int64_t top_k) {
  RouterInfo info;
  info.scores = scores;
  info.top_k = top_k;
  return info;
}

constexpr auto kSoftmax = RouterInfo::Scores::kSoftmax, kSigmoid = RouterInfo::Scores::kSigmoid,
               kSparsemixer = RouterInfo::Scores::kSparsemixer;

const at::Tensor kLogits = at::tensor({1.0f, 3.0f, -2.0f, 2.0f}).unsqueeze(0);

TEST(Router, SoftmaxIsOverAllExpertsOrOverTheChosen) {
  const double all = std::exp(1) + std::exp(3) + std::exp(-2) + std::exp(2);
  RouterInfo info = router(kSoftmax, 2);
  const Routing of_all = route(info, kLogits, {});
  EXPECT_THAT(experts_of(of_all, 0), ElementsAre(1, 3));
  EXPECT_NEAR(weight_of(of_all, 1), std::exp(3) / all, 1e-6);
  EXPECT_NEAR(weight_of(of_all, 3), std::exp(2) / all, 1e-6);
  info.normalize = true;
  info.scale = 2.5;
  EXPECT_NEAR(weight_of(route(info, kLogits, {}), 1), 2.5 * sigmoid(1), 1e-6);
}

TEST(Router, ACorrectionBiasChangesTheChoiceAndNoWeight) {
  const Routing routing = route(router(kSigmoid, 2), kLogits, at::tensor({0.0f, 0.0f, 5.0f, 0.0f}));
  EXPECT_THAT(experts_of(routing, 0), ElementsAre(1, 2));
  EXPECT_NEAR(weight_of(routing, 2), sigmoid(-2), 1e-6);
}

TEST(Router, OnlyTheBestGroupsAreChosenFrom) {
  const at::Tensor logits = at::tensor({4.0f, -4.0f, 3.0f, 2.5f, 1.0f, 0.0f}).unsqueeze(0);  // three groups of two
  RouterInfo info = router(kSigmoid, 2);
  info.groups = 3;
  info.top_groups = 1;
  EXPECT_THAT(experts_of(route(info, logits, {}), 0), ElementsAre(2, 3));  // by the sum of the best two
  info.by_best_two = false;
  EXPECT_THAT(experts_of(route(info, logits, {}), 0), ElementsAre(0, 1));  // by the best
}

TEST(Router, SparsemixerWeighsEachAmongThoseThatAreAboutAsGood) {
  RouterInfo info = router(kSparsemixer, 2);
  info.jitter = 0.2;  // within 40 %: of 3 only 2; of the rest 1 is not within 40 % of 2
  const Routing routing = route(info, kLogits, {});
  EXPECT_THAT(experts_of(routing, 0), ElementsAre(1, 3));
  EXPECT_NEAR(weight_of(routing, 1), sigmoid(1), 1e-6);
  EXPECT_NEAR(weight_of(routing, 3), 1, 1e-6);
}

// Four experts on eight features; gate, up and down of each are slots behind the router's.
class ExpertsTest : public testing::Test {
 protected:
  ExpertsTest() {
    at::set_num_threads(1);
    at::manual_seed(3);
    info_.router = router(kSoftmax, 2);
    for (int i = 0; i < 4; ++i) {
      MlpInfo expert;
      expert.gate = LinearInfo{};
      info_.experts.push_back(expert);
    }
    const auto random = [](int64_t out, int64_t in) { return at::randn({out, in}, at::kDouble) * 0.4; };
    weights_.push_back(random(4, 8));
    for (int i = 0; i < 4; ++i)
      for (const auto& [out, in] : {std::pair{6, 8}, std::pair{6, 8}, std::pair{8, 6}})
        weights_.push_back(random(out, in));
    weights_[0][3] -= 100 * at::ones({8}, at::kDouble);  // the features are positive: nobody chooses the last
  }

  at::Tensor forward(const at::Tensor& x) {
    Linears linears;
    for (size_t i = 0; i < weights_.size(); ++i) {
      linears.slots.push_back({LinearInfo{}, weights_[i], {}});
      linears.slots.back().info.name = std::to_string(i);
    }
    linears.input_hook = [&](const LinearInfo& linear, const at::Tensor& input) {
      tokens_[std::stoul(linear.name)] += input.size(0);
      return input;
    };
    return Experts(info_, 0, {}, {}).forward(linears, x, {});
  }

  // Each token by itself.
  at::Tensor expected(const at::Tensor& x) const {
    at::Tensor sum = at::zeros_like(x);
    const Routing routing = route(info_.router, at::linear(x, weights_[0]), {});
    for (int64_t token = 0; token < x.size(0); ++token)
      for (int64_t k = 0; k < info_.router.top_k; ++k) {
        const auto slot = static_cast<size_t>(1 + 3 * routing.experts[token][k].item<int64_t>());
        const at::Tensor weight = routing.weights[token][k];
        const at::Tensor in = info_.router.weigh_inputs ? x[token] * weight : x[token];
        const at::Tensor out = at::linear(at::silu(at::linear(in, weights_[slot])) * at::linear(in, weights_[slot + 1]),
                                          weights_[slot + 2]);
        sum[token] += info_.router.weigh_inputs ? out : out * weight;
      }
    return sum;
  }

  ExpertsInfo info_;
  std::vector<at::Tensor> weights_;
  std::map<size_t, int64_t> tokens_;  // that each slot was given
  const at::Tensor x_ = at::rand({2, 5, 8}, at::kDouble);
};

TEST_F(ExpertsTest, EachTokenGoesToItsExpertsAlone) {
  const at::Tensor tokens = x_.view({10, 8});
  EXPECT_TRUE(at::allclose(forward(x_).view({10, 8}), expected(tokens), 1e-12, 1e-12));
  int64_t routed = 0;
  for (const size_t gate : {1, 4, 7}) routed += tokens_[gate];
  EXPECT_EQ(routed, 20);
  EXPECT_EQ(tokens_.count(10), 0) << "the last expert has no tokens";
  info_.router.weigh_inputs = true;
  EXPECT_TRUE(at::allclose(forward(x_).view({10, 8}), expected(tokens), 1e-12, 1e-12));
}

TEST_F(ExpertsTest, GradientsEqualThoseOfEachTokenByItself) {
  const at::AutoGradMode with_grad(true);
  std::vector<at::Tensor> leaves{x_.detach().clone().requires_grad_(true)};
  for (at::Tensor& weight : weights_) leaves.push_back(weight.requires_grad_(true));
  const at::Tensor direction = at::randn_like(x_);
  const auto gradients = [&](const at::Tensor& y) {
    return torch::autograd::grad({(y.view_as(direction) * direction).sum()}, {leaves.begin(), leaves.end()}, {}, {},
                                 false, /*allow_unused=*/true);
  };
  const auto ours = gradients(forward(leaves[0])), theirs = gradients(expected(leaves[0].view({10, 8})));
  for (size_t i = 0; i < leaves.size(); ++i) {
    ASSERT_EQ(ours[i].defined(), theirs[i].defined()) << i;
    if (!ours[i].defined()) continue;
    EXPECT_TRUE(at::allclose(ours[i], theirs[i], 1e-10, 1e-10)) << i;
  }
  for (const size_t slot : {10, 11, 12}) EXPECT_FALSE(ours[1 + slot].defined()) << "of an expert without tokens";
}

TEST_F(ExpertsTest, ClampedSwigluIsThatOfGptOss) {
  for (MlpInfo& expert : info_.experts) expert.clamped = ClampedSwiglu{0.3, 1.702};
  const at::Tensor gate = at::tensor({-1.0, 0.2, 0.9}), up = at::tensor({0.1, -0.8, 2.0});
  Linears linears;  // each gives what is wanted of it, whatever it reads
  for (const at::Tensor& bias : {gate, up})
    linears.slots.push_back({LinearInfo{}, at::zeros({3, 3}, at::kDouble), bias.to(at::kDouble)});
  linears.slots.push_back({LinearInfo{}, at::eye(3, at::kDouble), {}});
  const at::Tensor y = Mlp(info_.experts[0], 0, {}).forward(linears, at::ones({3}, at::kDouble));
  const auto one = [](double g, double u) { return (u + 1) * g * sigmoid(1.702 * g); };
  EXPECT_TRUE(at::allclose(y, at::tensor({one(-1, 0.1), one(0.2, -0.3), one(0.3, 0.3)}, at::kDouble), 1e-6, 1e-6)) << y;
}

TEST_F(ExpertsTest, BitsDoNotDependOnTheThreads) {
  for (at::Tensor& weight : weights_) weight = weight.to(at::kFloat);
  info_.router.scores = kSigmoid;
  const at::Tensor x = at::rand({3000, 8});
  const at::Tensor one = forward(x);
  at::set_num_threads(3);
  EXPECT_TRUE(at::equal(forward(x), one));
}

}  // namespace
}  // namespace roundhouse
