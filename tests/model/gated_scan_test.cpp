// SPDX-License-Identifier: Apache-2.0
// The scan in chunks against its recurrence, position by position, and libtorch's gradients of that.
#include "host/model/gated_scan.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <vector>

namespace roundhouse {
namespace {

at::Tensor recurrence(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& g,
                      const std::optional<at::Tensor>& beta) {
  at::Tensor state = at::zeros({v.size(0), v.size(1), v.size(2), k.size(-1), v.size(-1)}, v.options());
  std::vector<at::Tensor> outputs;
  for (int64_t t = 0; t < v.size(3); ++t) {
    const auto at_t = [&](const at::Tensor& x) { return x.select(3, t); };
    const at::Tensor key = at_t(k).unsqueeze(-1);
    state = state * at::exp(at_t(g)).unsqueeze(-1).unsqueeze(-1);
    at::Tensor u = at_t(v);
    if (beta) u = at_t(*beta).unsqueeze(-1) * (u - (state * key).sum(-2));
    state = state + key * u.unsqueeze(-2);
    outputs.push_back((state * at_t(q).unsqueeze(-1)).sum(-2));
  }
  return at::stack(outputs, 3);
}

// q, k, v, g, beta: two sequences, two key heads for three heads each. Keys are of length 1, as those of models are.
std::vector<at::Tensor> inputs(int64_t seqlen, int64_t key_dim, int64_t head_dim, at::ScalarType dtype, double decay) {
  const at::Tensor k = at::randn({2, 2, 1, seqlen, key_dim}, at::kDouble);
  std::vector<at::Tensor> all{
      at::randn_like(k), k / k.norm(2, -1, true), at::randn({2, 2, 3, seqlen, head_dim}, at::kDouble),
      -decay * at::rand({2, 2, 3, seqlen}, at::kDouble), at::rand({2, 2, 3, seqlen}, at::kDouble)};
  for (at::Tensor& input : all) input = input.to(dtype).set_requires_grad(true);
  return all;
}

// The value, and the gradients of the inputs.
template <typename Scan>
std::vector<at::Tensor> run(const Scan& scan, std::vector<at::Tensor> in, bool delta, const at::Tensor& dy) {
  if (!delta) in.pop_back();
  const at::Tensor y = scan(in[0], in[1], in[2], in[3], delta ? std::optional(in[4]) : std::nullopt);
  std::vector<at::Tensor> results = torch::autograd::grad({y}, in, {dy});
  results.push_back(y.detach());
  return results;
}

class GatedScanTest : public testing::Test {
 protected:
  GatedScanTest() {
    at::set_num_threads(1);
    at::manual_seed(3);
  }
};

// Shorter than a chunk, whole chunks, and some left over; states that last, and some that are gone within a chunk.
TEST_F(GatedScanTest, EqualsTheRecurrence) {
  for (const int64_t seqlen : {1, 24, 128, 150})
    for (const double decay : {0.02, 30.0})
      for (const bool delta : {false, true}) {
        const std::vector<at::Tensor> in = inputs(seqlen, 5, 7, at::kDouble, decay);
        const at::Tensor dy = at::randn_like(in[2]);
        const auto ours = run(gated_scan, in, delta, dy), theirs = run(recurrence, in, delta, dy);
        ASSERT_EQ(ours.size(), theirs.size());
        for (size_t i = 0; i < ours.size(); ++i)
          EXPECT_LE((ours[i] - theirs[i]).abs().max().item<double>(),
                    1e-10 * (1 + theirs[i].abs().max().item<double>()))
              << seqlen << " " << decay << " " << delta << " " << i;
      }
}

TEST_F(GatedScanTest, LaterPositionsChangeNothing) {
  const std::vector<at::Tensor> in = inputs(100, 5, 7, at::kFloat, 1);
  std::vector<at::Tensor> other;
  for (const at::Tensor& x : in) other.push_back(at::cat({x.narrow(3, 0, 90), -x.narrow(3, 90, 10).abs()}, 3));
  const auto of = [](const std::vector<at::Tensor>& all) {
    return gated_scan(all[0], all[1], all[2], all[3], all[4]).narrow(3, 0, 90);
  };
  EXPECT_TRUE(at::equal(of(in), of(other)));
}

// At the sizes of a large model's heads.
TEST_F(GatedScanTest, BitsDoNotDependOnTheThreads) {
  const std::vector<at::Tensor> in = inputs(200, 128, 128, at::kFloat, 0.5);
  const at::Tensor dy = at::randn_like(in[2]);
  for (const bool delta : {false, true}) {
    std::vector<at::Tensor> first;
    for (const int threads : {1, 2, 3, 5}) {
      at::set_num_threads(threads);
      const std::vector<at::Tensor> results = run(gated_scan, in, delta, dy);
      if (first.empty()) first = results;
      for (size_t i = 0; i < results.size(); ++i) EXPECT_TRUE(at::equal(results[i], first[i])) << threads << " " << i;
    }
  }
  at::set_num_threads(1);
}

}  // namespace
}  // namespace roundhouse
