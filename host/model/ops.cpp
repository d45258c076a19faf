#include "host/model/ops.h"

#include <ATen/ATen.h>
#include <ATen/OpMathType.h>
#include <torch/csrc/autograd/custom_function.h>

namespace roundhouse {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

struct RmsNormFunction : Function<RmsNormFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight, double eps) {
    auto [normed, rstd] = at::_fused_rms_norm(x, {x.size(-1)}, std::nullopt, eps);
    context->save_for_backward({x, weight, rstd});
    return normed.mul_(weight);
  }

  // With n = x * rstd and g the gradient of n: dx = rstd * (g - n * mean(g * n)).
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &rstd = saved[2];
    const at::ScalarType math = at::toOpMathType(x.scalar_type());
    const at::Tensor g = (gradients[0] * weight).to(math);
    const at::Tensor n = x.to(math).mul(rstd);
    const at::Tensor mean = (g * n).mean(-1, /*keepdim=*/true);
    return {(g - n * mean).mul_(rstd).to(x.scalar_type()), {}, {}};
  }
};

// y = x * cos + rotate_half(x) * sin, where rotate_half takes (a, b) to (-b, a). The gradient is the same with the
// product by sin taken before the halves change places, and the signs turned.
struct RotateFunction : Function<RotateFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& cos,
                            const at::Tensor& sin) {
    context->save_for_backward({cos, sin});
    const int64_t dims = cos.size(-1), half = dims / 2;
    at::Tensor y = times_cos(x, cos);
    y.narrow(-1, 0, half).sub_(x.narrow(-1, half, half) * sin.narrow(-1, 0, half));
    y.narrow(-1, half, half).add_(x.narrow(-1, 0, half) * sin.narrow(-1, half, half));
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &dy = gradients[0], &cos = saved[0], &sin = saved[1];
    const int64_t dims = cos.size(-1), half = dims / 2;
    at::Tensor dx = times_cos(dy, cos);
    dx.narrow(-1, 0, half).add_(dy.narrow(-1, half, half) * sin.narrow(-1, half, half));
    dx.narrow(-1, half, half).sub_(dy.narrow(-1, 0, half) * sin.narrow(-1, 0, half));
    return {dx, {}, {}};
  }

 private:
  static at::Tensor times_cos(const at::Tensor& x, const at::Tensor& cos) {
    const int64_t dims = cos.size(-1);
    if (dims == x.size(-1)) return x * cos;
    at::Tensor y = x.clone(at::MemoryFormat::Contiguous);
    y.narrow(-1, 0, dims).mul_(cos);
    return y;
  }
};

struct SiluMulFunction : Function<SiluMulFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& gate, const at::Tensor& up) {
    context->save_for_backward({gate, up});
    return at::silu(gate).mul_(up);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &dy = gradients[0], &gate = saved[0], &up = saved[1];
    at::Tensor d_gate = dy * up;
    at::silu_backward_out(d_gate, d_gate, gate);
    return {d_gate, at::silu(gate).mul_(dy)};
  }
};

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  return RmsNormFunction::apply(x, weight, eps);
}

at::Tensor rotate(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  return RotateFunction::apply(x, cos, sin);
}

at::Tensor silu_mul(const at::Tensor& gate, const at::Tensor& up) { return SiluMulFunction::apply(gate, up); }

}  // namespace roundhouse
