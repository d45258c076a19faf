// SPDX-License-Identifier: Apache-2.0
#include "host/model/gated_scan.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "host/model/ops.h"

namespace roundhouse {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// As transformers has it for the delta rule.
constexpr int64_t kChunk = 64;  // positions

at::Tensor exp_of(const at::Tensor& x) { return activate(Activation::kExp, x); }

// Along the last dimension, as the CPU's cumsum: in double. CUDA's adds in an order that varies.
at::Tensor running_sums(const at::Tensor& x) {
  if (x.is_cpu()) return x.cumsum(-1);
  const int64_t size = x.size(-1);
  const at::Tensor upper = at::ones({size, size}, x.options().dtype(at::kDouble)).triu();
  return at::matmul(x.to(at::kDouble), upper).to(x.scalar_type());
}

// q, k, v, g and, of the delta rule, beta.
using Inputs = std::vector<at::Tensor>;

struct Chunk {
  at::Tensor y, state;
};

// `state`: before the chunk; in the result, after it. [..., key_dim, head_dim]
Chunk scan_chunk(const Inputs& inputs, const at::Tensor& state) {
  const at::Tensor &q = inputs[0], &k = inputs[1], &v = inputs[2];
  const at::Tensor decay = running_sums(inputs[3]);  // logarithm of what the state before the chunk is multiplied with
  const at::Tensor last = decay.narrow(-1, decay.size(-1) - 1, 1), grown = exp_of(decay).unsqueeze(-1);
  const at::Tensor later = at::ones({q.size(-2), q.size(-2)}, q.options().dtype(at::kBool)).triu(1);
  // [..., position, one before it or itself]
  const at::Tensor between =
      exp_of((decay.unsqueeze(-1) - decay.unsqueeze(-2)).masked_fill(later, -std::numeric_limits<double>::infinity()));
  const at::Tensor keys = k.transpose(-1, -2);
  at::Tensor u = v;
  if (inputs.size() > 4) {
    // u_t is what the u before it in the chunk leave: a triangular system.
    const at::Tensor beta = inputs[4].unsqueeze(-1);
    u = at::linalg_solve_triangular(beta * (at::matmul(k, keys) * between), beta * (v - grown * at::matmul(k, state)),
                                    /*upper=*/false, /*left=*/true, /*unitriangular=*/true);
  }
  Chunk chunk;
  chunk.y = grown * at::matmul(q, state) + at::matmul(at::matmul(q, keys) * between, u);
  const at::Tensor kept = (k * exp_of(last - decay).unsqueeze(-1)).transpose(-1, -2);
  chunk.state = exp_of(last).unsqueeze(-1) * state + at::matmul(kept, u);
  return chunk;
}

Inputs at_positions(const Inputs& inputs, int64_t begin, int64_t length) {
  Inputs slices;
  for (const at::Tensor& input : inputs) slices.push_back(input.narrow(3, begin, length));
  return slices;
}

struct GatedScanFunction : Function<GatedScanFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const at::Tensor& g, const std::optional<at::Tensor>& beta) {
    Inputs inputs{q, k, v, g};
    if (beta) inputs.push_back(*beta);
    const int64_t seqlen = v.size(3);
    std::vector<int64_t> shape = v.sizes().vec();
    shape[3] = k.size(-1);
    variable_list saved = inputs;
    at::Tensor state = at::zeros(shape, v.options());
    std::vector<at::Tensor> outputs;
    for (int64_t begin = 0; begin < seqlen; begin += kChunk) {
      saved.push_back(state);
      Chunk chunk = scan_chunk(at_positions(inputs, begin, std::min(kChunk, seqlen - begin)), state);
      outputs.push_back(std::move(chunk.y));
      state = std::move(chunk.state);
    }
    context->saved_data["inputs"] = static_cast<int64_t>(inputs.size());
    context->save_for_backward(std::move(saved));
    return at::cat(outputs, 3);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const auto count = static_cast<size_t>(context->saved_data["inputs"].toInt());
    const Inputs inputs(saved.begin(), saved.begin() + static_cast<std::ptrdiff_t>(count));
    const int64_t seqlen = inputs[2].size(3);
    variable_list sums;  // gradients of the inputs, filled chunk by chunk
    for (const at::Tensor& input : inputs) sums.push_back(at::zeros(input.sizes(), input.options()));
    at::Tensor of_state;
    for (size_t i = saved.size() - count; i-- > 0;) {
      const int64_t begin = static_cast<int64_t>(i) * kChunk, length = std::min(kChunk, seqlen - begin);
      variable_list leaves = at_positions(inputs, begin, length);
      leaves.push_back(saved[count + i]);
      for (at::Tensor& leaf : leaves) leaf = leaf.detach().requires_grad_();
      const at::AutoGradMode with_gradients(true);
      const Chunk chunk = scan_chunk({leaves.begin(), leaves.end() - 1}, leaves.back());
      variable_list of_outputs{gradients[0].narrow(3, begin, length)}, outputs{chunk.y};
      if (of_state.defined()) outputs.push_back(chunk.state), of_outputs.push_back(of_state);
      variable_list of_leaves = torch::autograd::grad(outputs, leaves, of_outputs);
      for (size_t t = 0; t < count; ++t) sums[t].narrow(3, begin, length).copy_(of_leaves[t]);
      of_state = of_leaves.back();
    }
    sums.resize(5);  // beta's is undefined where there is none
    return sums;
  }
};

}  // namespace

at::Tensor gated_scan(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& g,
                      const std::optional<at::Tensor>& beta) {
  return GatedScanFunction::apply(q, k, v, g, beta);
}

}  // namespace roundhouse
