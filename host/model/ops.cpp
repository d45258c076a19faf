// SPDX-License-Identifier: Apache-2.0
#include "host/model/ops.h"

#include <ATen/ATen.h>
#include <ATen/OpMathType.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <limits>
#include <stdexcept>

#include "host/model/block_kernels.h"
#include "host/model/slices.h"

namespace roundhouse {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

struct RmsNormFunction : Function<RmsNormFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input, const at::Tensor& weight, double eps) {
    const at::Tensor x = input.contiguous();  // libtorch's kernel takes it to be
    auto [normed, rstd] = at::_fused_rms_norm(x, {x.size(-1)}, std::nullopt, eps);
    context->save_for_backward({x, weight, rstd});
    return normed.mul_(weight);
  }

  // With n = x * rstd and g the gradient of n: dx = rstd * (g - n * mean(g * n)).
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &rstd = saved[2];
    if (!x.is_cpu()) {  // libtorch has it in one pass there, and only there
      const at::Tensor g = (gradients[0] * weight).contiguous();
      return {std::get<0>(at::_fused_rms_norm_backward(g, x, {x.size(-1)}, rstd, std::nullopt, {true, false})), {}, {}};
    }
    const at::ScalarType math = at::toOpMathType(x.scalar_type());
    const at::Tensor g = (gradients[0] * weight).to(math);
    const at::Tensor n = x.to(math).mul(rstd);
    const at::Tensor mean = (g * n).mean(-1, /*keepdim=*/true);
    return {(g - n * mean).mul_(rstd).to(x.scalar_type()), {}, {}};
  }
};

// y = x * cos + turned(x) * sin, where turned takes a pair (a, b) to (-b, a). The gradient is the same with the product
// by sin taken before the two change places, and the signs turned.
struct RotateFunction : Function<RotateFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin,
                            bool interleaved) {
    context->save_for_backward({cos, sin});
    context->saved_data["interleaved"] = interleaved;
    if (const at::Tensor y = in_one_pass(x, cos, sin, interleaved, /*back=*/false); y.defined()) return y;
    const Pairs pairs{cos.size(-1), interleaved};
    at::Tensor y = times_cos(x, cos);
    pairs.first(y).sub_(pairs.second(x) * pairs.first(sin));
    pairs.second(y).add_(pairs.first(x) * pairs.second(sin));
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &dy = gradients[0], &cos = saved[0], &sin = saved[1];
    const Pairs pairs{cos.size(-1), context->saved_data["interleaved"].toBool()};
    if (const at::Tensor dx = in_one_pass(dy, cos, sin, pairs.interleaved, /*back=*/true); dx.defined())
      return {dx, {}, {}, {}};
    at::Tensor dx = times_cos(dy, cos);
    pairs.first(dx).add_(pairs.second(dy) * pairs.second(sin));
    pairs.second(dx).sub_(pairs.first(dy) * pairs.first(sin));
    return {dx, {}, {}, {}};
  }

 private:
  // The first and the second features of all pairs, [..., dims / 2].
  struct Pairs {
    int64_t dims;
    bool interleaved;
    at::Tensor first(const at::Tensor& x) const {
      return interleaved ? x.slice(-1, 0, dims, 2) : x.narrow(-1, 0, dims / 2);
    }
    at::Tensor second(const at::Tensor& x) const {
      return interleaved ? x.slice(-1, 1, dims, 2) : x.narrow(-1, dims / 2, dims / 2);
    }
  };

  // Undefined where the device has no kernel for it.
  static at::Tensor in_one_pass(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool interleaved,
                                bool back) {
    const auto call = block_kernels({x, cos, sin});
    if (!call || x.dim() != 4 || x.numel() > std::numeric_limits<uint32_t>::max()) return {};
    at::Tensor y = at::empty_like(x);
    call->check(
        call->kernels->rotate(call->queue, call->type,
                              {x.size(0) * x.size(1), x.size(2), x.size(3), x.size(1), cos.size(-1), interleaved, back},
                              x.const_data_ptr(), cos.const_data_ptr(), sin.const_data_ptr(), y.mutable_data_ptr()));
    return y;
  }

  static at::Tensor times_cos(const at::Tensor& x, const at::Tensor& cos) {
    const int64_t dims = cos.size(-1);
    if (dims == x.size(-1)) return x * cos;
    at::Tensor y = x.clone(at::MemoryFormat::Contiguous);
    y.narrow(-1, 0, dims).mul_(cos);
    return y;
  }
};

// Calls body(slices) for the slices of contiguous tensors of equal size, in parallel.
template <size_t N, typename Body>
void slice_by_slice(const std::array<at::Tensor, N>& tensors, const Body& body) {
  std::array<at::Tensor, N> flat;
  for (size_t t = 0; t < N; ++t) flat[t] = tensors[t].detach().view(-1);
  for_slices(flat[0].numel(), kSlice, flat[0].device(), [&](int64_t begin, int64_t length) {
    std::array<at::Tensor, N> slices;
    for (size_t t = 0; t < N; ++t) slices[t] = flat[t].narrow(0, begin, length);
    body(slices);
  });
}

void activation_out(Activation activation, at::Tensor& y, const at::Tensor& x) {
  switch (activation) {
    case Activation::kSilu:
      at::silu_out(y, x);
      return;
    case Activation::kGelu:
      at::gelu_out(y, x);
      return;
    case Activation::kGeluTanh:
      at::gelu_out(y, x, "tanh");
      return;
    case Activation::kRelu:
      at::relu_out(y, x);
      return;
    case Activation::kSquaredRelu:
      at::relu_out(y, x);
      y.mul_(y);
      return;
    case Activation::kSigmoid:
      at::sigmoid_out(y, x);
      return;
    case Activation::kSoftplus:
      at::softplus_out(y, x);
      return;
    case Activation::kExp:
      at::exp_out(y, x);
      return;
    case Activation::kXielu:
      break;
  }
  throw std::logic_error("an activation with parameters");
}

// dx may be dy.
void activation_backward_out(Activation activation, at::Tensor& dx, const at::Tensor& dy, const at::Tensor& x) {
  switch (activation) {
    case Activation::kSilu:
      at::silu_backward_out(dx, dy, x);
      return;
    case Activation::kGelu:
      at::gelu_backward_out(dx, dy, x);
      return;
    case Activation::kGeluTanh:
      at::gelu_backward_out(dx, dy, x, "tanh");
      return;
    case Activation::kRelu:
      at::threshold_backward_out(dx, dy, x, 0);
      return;
    case Activation::kSquaredRelu:
      at::mul_out(dx, dy, at::relu(x).mul_(2));
      return;
    case Activation::kSigmoid:
      at::sigmoid_backward_out(dx, dy, at::sigmoid(x));
      return;
    case Activation::kSoftplus:
      at::softplus_backward_out(dx, dy, x, 1, 20);
      return;
    case Activation::kExp:
      at::mul_out(dx, dy, at::exp(x));
      return;
    case Activation::kXielu:
      break;
  }
  throw std::logic_error("an activation with parameters");
}

struct ActivateFunction : Function<ActivateFunction> {
  static at::Tensor forward(AutogradContext* context, Activation activation, const at::Tensor& input) {
    const at::Tensor x = input.contiguous();
    context->save_for_backward({x});
    context->saved_data["activation"] = static_cast<int64_t>(activation);
    const at::Tensor y = at::empty_like(x);
    slice_by_slice<2>({y, x}, [&](auto& slices) { activation_out(activation, slices[0], slices[1]); });
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto activation = static_cast<Activation>(context->saved_data["activation"].toInt());
    const at::Tensor x = context->get_saved_variables()[0], dy = gradients[0].contiguous();
    const at::Tensor dx = at::empty_like(x);
    slice_by_slice<3>({dx, dy, x},
                      [&](auto& slices) { activation_backward_out(activation, slices[0], slices[1], slices[2]); });
    return {at::Tensor(), dx};
  }
};

struct ActivateAndMultiplyFunction : Function<ActivateAndMultiplyFunction> {
  static at::Tensor forward(AutogradContext* context, Activation activation, const at::Tensor& gate_input,
                            const at::Tensor& up_input) {
    const at::Tensor gate = gate_input.contiguous(), up = up_input.contiguous();
    context->save_for_backward({gate, up});
    context->saved_data["activation"] = static_cast<int64_t>(activation);
    const at::Tensor y = at::empty_like(gate);
    if (const auto call = block_kernels({gate, up}); call && activation == Activation::kSilu) {
      call->check(call->kernels->silu_multiply(call->queue, call->type, y.numel(), gate.const_data_ptr(),
                                               up.const_data_ptr(), y.mutable_data_ptr()));
      return y;
    }
    slice_by_slice<3>({y, gate, up}, [&](auto& slices) {
      activation_out(activation, slices[0], slices[1]);
      slices[0].mul_(slices[2]);
    });
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto activation = static_cast<Activation>(context->saved_data["activation"].toInt());
    const variable_list saved = context->get_saved_variables();
    const at::Tensor dy = gradients[0].contiguous(), &gate = saved[0], &up = saved[1];
    const at::Tensor d_gate = at::empty_like(gate), d_up = at::empty_like(up);
    if (const auto call = block_kernels({dy, gate, up}); call && activation == Activation::kSilu) {
      call->check(call->kernels->silu_multiply_backward(call->queue, call->type, dy.numel(), dy.const_data_ptr(),
                                                        gate.const_data_ptr(), up.const_data_ptr(),
                                                        d_gate.mutable_data_ptr(), d_up.mutable_data_ptr()));
      return {at::Tensor(), d_gate, d_up};
    }
    slice_by_slice<5>({d_gate, d_up, dy, gate, up}, [&](auto& slices) {
      auto& [d_gate, d_up, dy, gate, up] = slices;
      at::mul_out(d_gate, dy, up);
      activation_backward_out(activation, d_gate, d_gate, gate);
      activation_out(activation, d_up, gate);
      d_up.mul_(dy);
    });
    return {at::Tensor(), d_gate, d_up};
  }
};

struct SoftCapFunction : Function<SoftCapFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input, double cap) {
    const at::Tensor x = input.contiguous(), y = at::empty_like(x);
    slice_by_slice<2>({y, x}, [&](auto& slices) {
      at::div_out(slices[0], slices[1], at::scalar_tensor(cap, slices[1].options()));
      slices[0].tanh_().mul_(cap);
    });
    context->save_for_backward({y});
    context->saved_data["cap"] = cap;
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const at::Tensor y = context->get_saved_variables()[0], dy = gradients[0].contiguous(), dx = at::empty_like(y);
    const double cap = context->saved_data["cap"].toDouble();
    slice_by_slice<3>({dx, dy, y}, [&](auto& slices) { at::tanh_backward_out(slices[0], slices[1], slices[2] / cap); });
    return {dx, {}};
  }
};

struct XieluFunction : Function<XieluFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input, const at::Tensor& alpha_p,
                            const at::Tensor& alpha_n, const at::Tensor& beta, const at::Tensor& eps) {
    const at::Tensor x = input.contiguous(), y = at::empty_like(x);
    context->save_for_backward({x, alpha_p, alpha_n, beta, eps});
    slice_by_slice<2>({y, x}, [&](auto& slices) {
      const at::Tensor& x = slices[1];
      const at::Tensor above = alpha_p * x * x + beta * x;
      at::where_out(slices[0], x > 0, above, (at::expm1(at::minimum(x, eps)) - x) * alpha_n + beta * x);
    });
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], dy = gradients[0].contiguous(), dx = at::empty_like(x);
    const at::Tensor &alpha_p = saved[1], &alpha_n = saved[2], &beta = saved[3], &eps = saved[4];
    slice_by_slice<3>({dx, dy, x}, [&](auto& slices) {
      const at::Tensor& x = slices[2];
      const at::Tensor below = (at::exp(x) * (x < eps) - 1) * alpha_n + beta;
      at::mul_out(slices[0], slices[1], at::where(x > 0, 2 * alpha_p * x + beta, below));
    });
    return {dx, {}, {}, {}, {}};
  }
};

using TakeGradient = std::function<void(const at::Tensor& x, const at::Tensor& dy)>;

// A function as autograd keeps things: alive as long as the graph.
template <typename F>
struct Kept : torch::CustomClassHolder {
  explicit Kept(F function) : function(std::move(function)) {}
  F function;
};

template <typename F>
c10::IValue kept(F function) {
  return c10::IValue::make_capsule(c10::make_intrusive<Kept<F>>(std::move(function)));
}

template <typename F>
const F& function_in(const c10::IValue& value) {
  return static_cast<const Kept<F>&>(*value.toCapsule()).function;
}

// Slice by slice, so that no copy of all rows in the weights' type is needed, nor one in the tokens' order.
struct ExpertSumsFunction : Function<ExpertSumsFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& rows, const std::optional<at::Tensor>& of_rows,
                            const at::Tensor& pairs, int64_t top_k, RowsHook gradient) {
    const at::Tensor weights = of_rows.value_or(at::Tensor());
    context->save_for_backward({rows, weights, pairs});
    context->saved_data["top_k"] = top_k;
    context->saved_data["gradient"] = kept(std::move(gradient));
    const at::Tensor places = pairs.argsort().view({-1, top_k});
    const at::Tensor sums = at::empty({places.size(0), rows.size(1)}, rows.options());
    for_slices(sums.size(0), rows_in_slice(rows), rows.device(), [&](int64_t begin, int64_t length) {
      at::Tensor sum;
      for (int64_t k = 0; k < top_k; ++k) {
        const at::Tensor of_choice = places.narrow(0, begin, length).select(1, k);
        at::Tensor part = rows.index_select(0, of_choice);
        if (weights.defined()) part = part * weights.index_select(0, of_choice);
        sum = sum.defined() ? sum.add_(part) : part;
      }
      sums.narrow(0, begin, length).copy_(sum);
    });
    return sums;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &rows = saved[0], &weights = saved[1], &pairs = saved[2], &dy = gradients[0];
    const at::Tensor tokens = pairs.floor_divide(context->saved_data["top_k"].toInt());
    const auto& hook = function_in<RowsHook>(context->saved_data["gradient"]);
    if (!weights.defined()) {
      const at::Tensor d_rows = dy.index_select(0, tokens);
      if (hook) hook(d_rows, {dy, tokens, {}});
      return {d_rows, {}, {}, {}, {}};
    }
    const at::Tensor d_rows = at::empty_like(rows), d_weights = at::empty_like(weights);
    if (hook) hook(d_rows, {dy, tokens, weights.detach()});
    for_slices(rows.size(0), rows_in_slice(rows), rows.device(), [&](int64_t begin, int64_t length) {
      const auto slice = [&](const at::Tensor& of) { return of.narrow(0, begin, length); };
      const at::Tensor d_sums = dy.index_select(0, slice(tokens));
      slice(d_rows).copy_(d_sums * slice(weights));
      slice(d_weights).copy_((d_sums.to(weights.scalar_type()) * slice(rows)).sum(1, /*keepdim=*/true));
    });
    return {d_rows, d_weights, {}, {}, {}};
  }

 private:
  static int64_t rows_in_slice(const at::Tensor& rows) { return std::max<int64_t>(1, 4 * kSlice / rows.size(1)); }
};

struct HookedLinearFunction : Function<HookedLinearFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias, TakeGradient take) {
    context->save_for_backward({x, weight});
    context->saved_data["take"] = kept(std::move(take));
    return at::linear(with_round_rows(x), weight, bias).narrow(0, 0, x.size(0));
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &dy = gradients[0];
    function_in<TakeGradient>(context->saved_data["take"])(x.detach(), dy);
    if (!context->needs_input_grad(0)) return {{}, {}, {}, {}};
    return {with_round_rows(dy).mm(weight).narrow(0, 0, dy.size(0)), {}, {}, {}};
  }
};

}  // namespace

at::Tensor with_round_rows(const at::Tensor& x) {
  if (!x.is_cpu() || x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble) return x;
  const auto rows = static_cast<uint64_t>(x.size(0));
  const uint64_t step = std::max<uint64_t>(8, std::bit_floor(rows) / 8);
  const uint64_t more = (step - rows % step) % step;
  return more == 0 ? x : at::constant_pad_nd(x, {0, 0, 0, static_cast<int64_t>(more)});
}

at::Tensor hooked_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, TakeGradient take) {
  return HookedLinearFunction::apply(x, weight, std::optional(bias), std::move(take));
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  return RmsNormFunction::apply(x, weight, eps);
}

at::Tensor rotate(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool interleaved) {
  return RotateFunction::apply(x, cos, sin, interleaved);
}

at::Tensor expert_sums(const at::Tensor& rows, const at::Tensor& weights, const at::Tensor& pairs, int64_t top_k,
                       RowsHook gradient) {
  return ExpertSumsFunction::apply(rows, std::optional(weights), pairs, top_k, std::move(gradient));
}

at::Tensor soft_cap(const at::Tensor& x, double cap) { return SoftCapFunction::apply(x, cap); }

at::Tensor activate(const Xielu& xielu, const at::Tensor& x) {
  return XieluFunction::apply(x, xielu.alpha_p, xielu.alpha_n, xielu.beta, xielu.eps);
}

at::Tensor activate(Activation activation, const at::Tensor& x) { return ActivateFunction::apply(activation, x); }

at::Tensor activate_and_multiply(Activation activation, const at::Tensor& gate, const at::Tensor& up) {
  return ActivateAndMultiplyFunction::apply(activation, gate, up);
}

}  // namespace roundhouse
