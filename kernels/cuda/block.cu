// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/block.h"
#include "kernels/cuda/launch.cuh"

namespace roundhouse::kernels {
namespace {

constexpr int kThreadsOfRow = 32;

// W elements a thread.
template <Element type, int W>
__global__ void silu_multiply_kernel(int64_t n, const void* gate, const void* up, void* y) {
  const int64_t i = thread_index() * W;
  if (i >= n) return;
  float g[W], u[W];
  load_elements<type>(gate, i, g);
  load_elements<type>(up, i, u);
  for (int k = 0; k < W; ++k) g[k] = round_to<type>(g[k] / (1.0f + expf(-g[k]))) * u[k];
  store_elements<type>(y, i, g);
}

template <Element type, int W>
__global__ void silu_multiply_backward_kernel(int64_t n, const void* dy, const void* gate, const void* up, void* d_gate,
                                              void* d_up) {
  const int64_t i = thread_index() * W;
  if (i >= n) return;
  float d[W], g[W], u[W];
  load_elements<type>(dy, i, d);
  load_elements<type>(gate, i, g);
  load_elements<type>(up, i, u);
  for (int k = 0; k < W; ++k) {
    const float sigmoid = 1.0f / (1.0f + expf(-g[k])), silu = round_to<type>(g[k] * sigmoid);
    u[k] = round_to<type>(d[k] * u[k]) * sigmoid * (1.0f + g[k] * (1.0f - sigmoid));
    g[k] = silu * d[k];
  }
  store_elements<type>(d_gate, i, u);
  store_elements<type>(d_up, i, g);
}

// A thread for W pairs, or for W features that are not turned. W > 1: not interleaved, all counts are multiples of W.
template <Element type, int W>
__global__ void rotate_kernel(Rotation r, uint32_t threads, const void* x, const void* cos, const void* sin, void* y) {
  const int64_t thread = thread_index();
  if (thread >= threads) return;
  const auto index = static_cast<uint32_t>(thread), pairs = static_cast<uint32_t>(r.dims / 2);
  const uint32_t of_head = (static_cast<uint32_t>(r.size) - pairs) / W, head = index / of_head;
  const uint32_t place = index % of_head * W;
  const int64_t begin = head * r.size;
  float a[W], b[W];
  if (place >= pairs) {  // not turned
    load_elements<type>(x, begin + pairs + place, a);
    return store_elements<type>(y, begin + pairs + place, a);
  }
  const uint32_t first = r.interleaved ? 2 * place : place, second = r.interleaved ? first + 1 : first + pairs;
  const uint32_t position = head / static_cast<uint32_t>(r.heads) % static_cast<uint32_t>(r.positions);
  const int64_t angle = position * r.dims;
  float cos_a[W], cos_b[W], sin_a[W], sin_b[W];
  load_elements<type>(x, begin + first, a);
  load_elements<type>(x, begin + second, b);
  load_elements<type>(cos, angle + first, cos_a);
  load_elements<type>(cos, angle + second, cos_b);
  load_elements<type>(sin, angle + first, sin_a);
  load_elements<type>(sin, angle + second, sin_b);
  for (int k = 0; k < W; ++k) {
    const float own_a = round_to<type>(a[k] * cos_a[k]), own_b = round_to<type>(b[k] * cos_b[k]);
    const float of_b = round_to<type>(b[k] * (r.back ? sin_b[k] : sin_a[k]));
    const float of_a = round_to<type>(a[k] * (r.back ? sin_a[k] : sin_b[k]));
    a[k] = r.back ? own_a + of_b : own_a - of_b;
    b[k] = r.back ? own_b - of_a : own_b + of_a;
  }
  store_elements<type>(y, begin + first, a);
  store_elements<type>(y, begin + second, b);
}

// A warp a row. The sum is of W lanes a thread, which a tree adds.
template <Element type, int W>
__global__ void squared_error_kernel(int64_t rows, int64_t cols, const void* prediction, const void* target,
                                     const uint8_t* mask, float scale, const float* limit, void* gradient,
                                     float* sums) {
  const int64_t row = span_index<kThreadsOfRow>();
  if (row >= rows) return;
  const bool counts = mask[row] != 0;
  const float most = limit ? *limit : 0.0f;
  float squares[W] = {};
  for (int64_t i = row * cols + place<kThreadsOfRow>() * W; i < (row + 1) * cols; i += kThreadsOfRow * W) {
    float p[W] = {}, t[W] = {};
    if (counts) {
      load_elements<type>(prediction, i, p);
      load_elements<type>(target, i, t);
    }
    for (int k = 0; k < W; ++k) {
      const float d = p[k] - t[k];
      const bool outlier = limit && is_finite(d) && (d > most || -d > most);
      p[k] = counts && !outlier ? d : 0.0f;
      squares[k] = squares[k] + p[k] * p[k];
      p[k] = p[k] * scale;
    }
    store_elements<type>(gradient, i, p);
  }
  float sum = 0.0f;
  for (int k = 0; k < W; ++k) sum = sum + squares[k];
  sum = fold_threads<kThreadsOfRow>(sum, [](float a, float b) { return a + b; });
  if (place<kThreadsOfRow>() == 0) sums[row] = sum;
}

template <int W>
__global__ void keep_best_kernel(int64_t n, const bool* improved, const float* now, float* best) {
  const int64_t i = thread_index() * W;
  if (i >= n || !*improved) return;
  float x[W];
  load_elements<Element::kF32>(now, i, x);
  store_elements<Element::kF32>(best, i, x);
}

template <Element e>
struct Type {
  static constexpr Element value = e;
};

// body(element type, elements a thread)
template <typename Body>
void typed(Element type, bool together, Body&& body) {
  const auto wide = [&](auto element) { together ? body(element, Number<kTogether>{}) : body(element, Number<1>{}); };
  if (type == Element::kBF16)
    wide(Type<Element::kBF16>{});
  else if (type == Element::kF16)
    wide(Type<Element::kF16>{});
  else
    wide(Type<Element::kF32>{});
}

struct BlockCuda final : BlockKernels {
  const char* silu_multiply(Queue queue, Element type, int64_t n, const void* gate, const void* up,
                            void* y) const override {
    return run_spans(queue.device, queue.stream, n, [&](cudaStream_t s) {
      typed(type, together(n, {gate, up, y}), [&](auto element, auto width) {
        constexpr Element e = decltype(element)::value;
        constexpr int W = decltype(width)::value;
        silu_multiply_kernel<e, W><<<blocks_of(n / W), kThreads, 0, s>>>(n, gate, up, y);
      });
    });
  }

  const char* silu_multiply_backward(Queue queue, Element type, int64_t n, const void* dy, const void* gate,
                                     const void* up, void* d_gate, void* d_up) const override {
    return run_spans(queue.device, queue.stream, n, [&](cudaStream_t s) {
      typed(type, together(n, {dy, gate, up, d_gate, d_up}), [&](auto element, auto width) {
        constexpr Element e = decltype(element)::value;
        constexpr int W = decltype(width)::value;
        silu_multiply_backward_kernel<e, W><<<blocks_of(n / W), kThreads, 0, s>>>(n, dy, gate, up, d_gate, d_up);
      });
    });
  }

  const char* rotate(Queue queue, Element type, const Rotation& rotation, const void* x, const void* cos,
                     const void* sin, void* y) const override {
    const int64_t pairs = rotation.dims / 2, elements = rotation.tokens * rotation.heads * (rotation.size - pairs);
    if (elements > UINT32_MAX) return "more heads and tokens than 32 bits count";
    return run_spans(queue.device, queue.stream, elements, [&](cudaStream_t s) {
      const bool wide = !rotation.interleaved && rotation.size % kTogether == 0 && together(pairs, {x, cos, sin, y});
      typed(type, wide, [&](auto element, auto width) {
        constexpr Element e = decltype(element)::value;
        constexpr int W = decltype(width)::value;
        const auto threads = static_cast<uint32_t>(elements / W);
        rotate_kernel<e, W><<<blocks_of(threads), kThreads, 0, s>>>(rotation, threads, x, cos, sin, y);
      });
    });
  }

  const char* squared_error(Queue queue, Element type, int64_t rows, int64_t cols, const void* prediction,
                            const void* target, const uint8_t* mask, float scale, const float* limit, void* gradient,
                            float* sums) const override {
    return run_spans(queue.device, queue.stream, rows, [&](cudaStream_t s) {
      typed(type, together(cols, {prediction, target, gradient}), [&](auto element, auto width) {
        constexpr Element e = decltype(element)::value;
        constexpr int W = decltype(width)::value;
        squared_error_kernel<e, W><<<blocks_of(rows * kThreadsOfRow), kThreads, 0, s>>>(
            rows, cols, prediction, target, mask, scale, limit, gradient, sums);
      });
    });
  }

  const char* keep_best(Queue queue, int64_t n, const bool* improved, const float* now, float* best) const override {
    return run_spans(queue.device, queue.stream, n, [&](cudaStream_t s) {
      if (together(n, {now, best}))
        keep_best_kernel<kTogether><<<blocks_of(n / kTogether), kThreads, 0, s>>>(n, improved, now, best);
      else
        keep_best_kernel<1><<<blocks_of(n), kThreads, 0, s>>>(n, improved, now, best);
    });
  }
};

}  // namespace

const BlockKernels& block_cuda() {
  static const BlockCuda kernels;
  return kernels;
}

}  // namespace roundhouse::kernels
