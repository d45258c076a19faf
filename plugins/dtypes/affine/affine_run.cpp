#include "plugins/dtypes/affine/affine_run.h"

#include <algorithm>
#include <string>

#include "kernels/cpu/affine.h"
#if defined(ROUNDHOUSE_WITH_CUDA)
#include "kernels/cuda/affine.h"
#endif

using namespace roundhouse::kernels;

namespace {

// Elements of a chunk of work: some tens of microseconds.
constexpr int64_t kChunk = 1 << 16;
constexpr int64_t kSearchChunk = kChunk / 64;  // some hundred passes over each

// On the CPU body(begin, end) for chunks of spans; a chunk is whole spans, so no result depends on the thread count.
template <typename Body>
void for_spans(const AffineLayer& layer, Body&& body) {
  rh::parallel_for(affine_spans(layer), std::max<int64_t>(1, kChunk / layer.span_cols), body);
}

// Calls on_cuda(stream) when the call runs on CUDA, and says whether it did.
template <typename OnCuda>
bool ran_on_cuda(const rh_exec& exec, OnCuda&& on_cuda) {
  if (exec.device.type == RH_DEVICE_CPU) return false;
#if defined(ROUNDHOUSE_WITH_CUDA)
  if (exec.device.type == RH_DEVICE_CUDA) {
    const char* failure = on_cuda(AffineCuda{exec.device.id, exec.stream});
    if (failure) throw rh::Error(RH_INTERNAL, std::string("CUDA: ") + failure);
    return true;
  }
#else
  (void)on_cuda;
#endif
  throw rh::Error(RH_UNIMPLEMENTED,
                  "this build has no affine kernels for device type " + std::to_string(exec.device.type));
}

}  // namespace

void run_range(const rh_exec& exec, const AffineLayer& layer, const void* weight, float* low, float* high) {
  auto* workspace = static_cast<float*>(exec.workspace);
  if (ran_on_cuda(exec, [&](const auto& cuda) { return cuda.range(layer, weight, low, high, workspace); })) return;
  float* span_low = layer.whole_tensor ? workspace : low;
  float* span_high = layer.whole_tensor ? workspace + layer.rows : high;
  for_spans(layer,
            [&](int64_t begin, int64_t end) { affine_cpu().range(layer, weight, span_low, span_high, begin, end); });
  if (layer.whole_tensor) affine_range_tensor(layer, span_low, span_high, low, high);
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
  rh::parallel_for(affine_spans(layer), std::max<int64_t>(1, kSearchChunk / layer.span_cols),
                   [&](int64_t begin, int64_t end) { affine_cpu().search(layer, input, low, high, begin, end); });
}

void run_progressive(const rh_exec& exec, const AffineLayer& layer, const AffineProgressive& args) {
  if (ran_on_cuda(exec, [&](const auto& cuda) { return cuda.progressive(layer, args); })) return;
  *args.outer_scale = progressive_scale(args);
  with_element(layer.weight, [&](auto tag) {
    rh::parallel_for(layer.rows * layer.cols, kChunk, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) progressive_round<tag.value>(args, *args.outer_scale, i);
    });
  });
}
