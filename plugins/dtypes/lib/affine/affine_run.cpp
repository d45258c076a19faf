// SPDX-License-Identifier: Apache-2.0
#include "plugins/dtypes/lib/affine/affine_run.h"

#include "kernels/cpu/affine.h"
#include "plugins/dtypes/lib/run.h"
#if defined(ROUNDHOUSE_WITH_CUDA)
#include "kernels/cuda/affine.h"
#endif

using namespace roundhouse::kernels;

namespace {

#if defined(ROUNDHOUSE_WITH_CUDA)
using Cuda = AffineCuda;
#else
struct Cuda;
#endif

template <typename Body>
void for_spans(const AffineLayer& layer, Body&& body) {
  for_span_chunks(affine_spans(layer), layer.span_cols, body);
}

template <typename OnCuda>
bool ran_on_cuda(const rh_exec& exec, OnCuda&& on_cuda) {
  return ran_on<Cuda>(exec, on_cuda);
}

}  // namespace

void run_range(const rh_exec& exec, const AffineLayer& layer, const void* weight, float* low, float* high) {
  auto* workspace = static_cast<float*>(exec.workspace);
  if (ran_on_cuda(exec, [&](const auto& cuda) { return cuda.range(layer, weight, low, high, workspace); })) return;
  float* span_low = layer.whole_tensor ? workspace : low;
  float* span_high = layer.whole_tensor ? workspace + layer.rows : high;
  for_spans(layer,
            [&](int64_t begin, int64_t end) { affine_cpu().range(layer, weight, span_low, span_high, begin, end); });
  if (layer.whole_tensor) range_of_ranges(affine_spans(layer), span_low, span_high, low, high);
}

bool checks_on_cuda(const rh_exec& exec, const AffineLayer& layer, const float* low, const float* high) {
  return ran_on_cuda(exec, [&](const auto& cuda) { return cuda.check(layer, low, high, status_of(exec)); });
}

void run_forward(const rh_exec& exec, const AffineLayer& layer, const AffineInput& input, const AffineOutput& output) {
  if (ran_on_cuda(exec, [&](const auto& cuda) { return cuda.forward(layer, input, output); })) return;
  for_spans(layer, [&](int64_t begin, int64_t end) { affine_cpu().forward(layer, input, output, begin, end); });
}

void run_backward(const rh_exec& exec, const AffineLayer& layer, const AffineInput& input,
                  const AffineGradient& gradient, const AffineGradients& output) {
  auto* sums = static_cast<AffineSums*>(exec.workspace);
  if (ran_on_cuda(exec, [&](const auto& cuda) { return cuda.backward(layer, input, gradient, output, sums); })) return;
  for_spans(layer, [&](int64_t begin, int64_t end) {
    affine_cpu().backward(layer, input, gradient, output, sums, begin, end);
  });
  if (layer.whole_tensor) affine_finish_tensor(layer, input, sums, output);
}

void run_sign_step(const rh_exec& exec, const AffineLayer& layer, const AffineInput& input,
                   const AffineGradient& gradient, const AffineStep& step) {
  auto* sums = static_cast<AffineSums*>(exec.workspace);
  if (ran_on_cuda(exec, [&](const auto& cuda) { return cuda.sign_step(layer, input, gradient, step, sums); })) return;
  for_spans(layer, [&](int64_t begin, int64_t end) {
    affine_cpu().sign_step(layer, input, gradient, step, sums, begin, end);
  });
  if (layer.whole_tensor) affine_finish_tensor(layer, input, sums, step);
}

void run_encode(const rh_exec& exec, const AffineLayer& layer, const AffineInput& input, const AffineCodes& output) {
  if (ran_on_cuda(exec, [&](const auto& cuda) { return cuda.encode(layer, input, output); })) return;
  for_spans(layer, [&](int64_t begin, int64_t end) { affine_cpu().encode(layer, input, output, begin, end); });
}

void run_decode(const rh_exec& exec, const AffineLayer& layer, const AffineCodes& input, void* output, Element type) {
  if (ran_on_cuda(exec, [&](const auto& cuda) { return cuda.decode(layer, input, output, type); })) return;
  for_spans(layer, [&](int64_t begin, int64_t end) { affine_cpu().decode(layer, input, output, type, begin, end); });
}

void run_input_gradient(const rh_exec& exec, const AffineLayer& layer, const AffineInput& input,
                        const AffineGradient& gradient, void* output) {
  if (ran_on_cuda(exec, [&](const auto& cuda) { return cuda.input_gradient(layer, input, gradient, output); })) return;
  for_spans(layer, [&](int64_t begin, int64_t end) {
    affine_cpu().input_gradient(layer, input, gradient, output, begin, end);
  });
}

void run_search(const rh_exec& exec, const AffineLayer& layer, const AffineSearch& input, float* low, float* high) {
  if (ran_on_cuda(exec, [&](const auto& cuda) { return cuda.search(layer, input, low, high); })) return;
  constexpr int64_t kPasses = 64;  // over each span, about
  for_span_chunks(affine_spans(layer), layer.span_cols * kPasses,
                  [&](int64_t begin, int64_t end) { affine_cpu().search(layer, input, low, high, begin, end); });
}

void run_progressive(const rh_exec& exec, const AffineLayer& layer, const AffineProgressive& args) {
  if (ran_on_cuda(exec, [&](const auto& cuda) { return cuda.progressive(layer, args); })) return;
  *args.outer_scale = progressive_scale(args);
  with_element(layer.weight, [&](auto tag) {
    for_span_chunks(layer.rows * layer.cols, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) progressive_round<tag.value>(args, *args.outer_scale, i);
    });
  });
}
