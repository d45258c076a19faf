// SPDX-License-Identifier: Apache-2.0
#include "plugins/dtypes/lib/scaled/scaled_run.h"

#include "kernels/cpu/scaled.h"
#include "kernels/scaled_math.h"
#include "plugins/dtypes/lib/run.h"
#if defined(ROUNDHOUSE_WITH_CUDA)
#include "kernels/cuda/scaled.h"
#endif

using namespace roundhouse::kernels;

namespace {

#if defined(ROUNDHOUSE_WITH_CUDA)
using Cuda = ScaledCuda;
#else
struct Cuda;
#endif

template <typename Body>
void for_spans(const ScaledLayer& layer, Body&& body) {
  for_span_chunks(scaled_spans(layer), layer.span_cols, body);
}

template <typename OnCuda>
bool ran_on_cuda(const rh_exec& exec, OnCuda&& on_cuda) {
  return ran_on<Cuda>(exec, on_cuda);
}

}  // namespace

void run_maximum(const rh_exec& exec, const ScaledLayer& layer, const void* input, float* maximum, float* workspace) {
  if (ran_on_cuda(exec, [&](const auto& cuda) { return cuda.maximum(layer, input, maximum, workspace); })) return;
  float* spans = layer.group_rows > 1 ? workspace : maximum;
  for_spans(layer, [&](int64_t begin, int64_t end) { scaled_cpu().maximum(layer, input, spans, begin, end); });
  if (layer.group_rows > 1) scaled_group_maximum(layer, spans, maximum);
}

void run_largest(const rh_exec& exec, int64_t n, const float* maximum, float* largest, float* workspace) {
  if (ran_on_cuda(exec, [&](const auto& cuda) { return cuda.largest(n, maximum, largest, workspace); })) return;
  *largest = largest_of(n, maximum);
}

bool checks_on_cuda(const rh_exec& exec, const ScaledLayer& layer, int64_t groups, const float* maximum,
                    const float* largest) {
  return ran_on_cuda(exec,
                     [&](const auto& cuda) { return cuda.check(layer, groups, maximum, largest, status_of(exec)); });
}

void run_search(const rh_exec& exec, const ScaledLayer& layer, const ScaledInput& input, const ScaledSearch& search) {
  if (ran_on_cuda(exec, [&](const auto& cuda) { return cuda.search(layer, input, search); })) return;
  for_spans(layer, [&](int64_t begin, int64_t end) { scaled_cpu().search(layer, input, search, begin, end); });
}

void run_forward(const rh_exec& exec, const ScaledLayer& layer, const ScaledInput& input, const ScaledOutput& output) {
  if (ran_on_cuda(exec, [&](const auto& cuda) { return cuda.forward(layer, input, output); })) return;
  for_spans(layer, [&](int64_t begin, int64_t end) { scaled_cpu().forward(layer, input, output, begin, end); });
}

void run_input_gradient(const rh_exec& exec, const ScaledLayer& layer, const ScaledInput& input,
                        const OutputGradient& gradient, void* output, Element type) {
  if (ran_on_cuda(exec, [&](const auto& cuda) { return cuda.input_gradient(layer, input, gradient, output, type); }))
    return;
  for_spans(layer, [&](int64_t begin, int64_t end) {
    scaled_cpu().input_gradient(layer, input, gradient, output, type, begin, end);
  });
}

void run_backward(const rh_exec& exec, const ScaledLayer& layer, const ScaledInput& input,
                  const OutputGradient& gradient, const TunableGradients& output, ScaledSum* sums) {
  if (ran_on_cuda(exec, [&](const auto& cuda) { return cuda.backward(layer, input, gradient, output, sums); })) return;
  for_spans(layer, [&](int64_t begin, int64_t end) {
    scaled_cpu().backward(layer, input, gradient, output, sums, begin, end);
  });
  if (layer.group_rows > 1) scaled_finish_groups(layer, input, sums, output);
}

void run_sign_step(const rh_exec& exec, const ScaledLayer& layer, const ScaledInput& input,
                   const OutputGradient& gradient, const TunableStep& step, ScaledSum* sums) {
  if (ran_on_cuda(exec, [&](const auto& cuda) { return cuda.sign_step(layer, input, gradient, step, sums); })) return;
  for_spans(layer, [&](int64_t begin, int64_t end) {
    scaled_cpu().sign_step(layer, input, gradient, step, sums, begin, end);
  });
  if (layer.group_rows > 1) scaled_finish_groups(layer, input, sums, step);
}

void run_encode(const rh_exec& exec, const ScaledLayer& layer, const ScaledInput& input, const ScaledCodes& output) {
  if (ran_on_cuda(exec, [&](const auto& cuda) { return cuda.encode(layer, input, output); })) return;
  for_spans(layer, [&](int64_t begin, int64_t end) { scaled_cpu().encode(layer, input, output, begin, end); });
}

void run_decode(const rh_exec& exec, const ScaledLayer& layer, const ScaledCodes& input, void* output, Element type) {
  if (ran_on_cuda(exec, [&](const auto& cuda) { return cuda.decode(layer, input, output, type); })) return;
  for_spans(layer, [&](int64_t begin, int64_t end) { scaled_cpu().decode(layer, input, output, type, begin, end); });
}

void run_calibrated(const rh_exec& exec, const ScaledLayer& layer, const ScaledInput& input, float* scale) {
  if (ran_on_cuda(exec, [&](const auto& cuda) { return cuda.calibrated(layer, input, scale); })) return;
  *scale = scaled_calibrated(layer, input);
}
