// Prints the memory traffic per second of each CPU kernel on one thread, beside memcpy: a 4096 x 4096 bfloat16 weight
// in 4 bits, groups of 128.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/affine_math.h"
#include "kernels/cpu/affine.h"

namespace {

using namespace roundhouse::kernels;

constexpr int kRepeats = 7;

// Seconds of the fastest of kRepeats runs.
template <typename Body>
double fastest(Body&& body) {
  double best = 1e9;
  for (int i = 0; i < kRepeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    body();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

template <typename Body>
void report(const char* target, const char* name, double bytes, Body&& body) {
  std::printf("%-8s %-10s %7.2f GB/s\n", target, name, bytes / fastest(body) / 1e9);
}

}  // namespace

int main() {
  AffineLayer layer{};
  layer.rows = layer.cols = 4096;
  layer.span_cols = 128;
  layer.symmetric = true;
  layer.tuned = true;
  layer.bits = 4;
  layer.weight = Element::kBF16;
  layer.scale = Element::kF16;
  layer.scale_threshold = round_to(Element::kF16, 1e-5f);

  const int64_t n = layer.rows * layer.cols, spans = affine_spans(layer);
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.0f, 0.02f);
  std::vector<uint16_t> weight(n), gradient(n), qdq(n);
  for (auto& x : weight) x = bfloat_from_float(normal(random));
  for (auto& x : gradient) x = bfloat_from_float(normal(random));
  std::vector<float> v(n), low(spans), high(spans), min_scale(spans, 1.0f), max_scale(spans, 1.0f);
  std::vector<uint8_t> codes(n);
  std::vector<uint16_t> scale(spans);
  const float rate = 0.005f;

  const AffineInput plain{weight.data(), nullptr, nullptr, nullptr, low.data(), high.data()};
  const AffineInput tuned{weight.data(), v.data(), min_scale.data(), max_scale.data(), low.data(), high.data()};
  const AffineOutput output{qdq.data(), Element::kBF16, nullptr, nullptr};
  const AffineGradient qdq_gradient{gradient.data(), Element::kBF16};
  const AffineStep step{v.data(), min_scale.data(), max_scale.data(), &rate, &rate};

  std::printf("bytes that must be read and written, one thread\n");
  std::vector<float> copy(n);
  report("", "memcpy", 8.0 * n, [&] { std::memcpy(copy.data(), v.data(), 4 * n); });
  for (const AffineCpu* cpu : affine_cpu_targets()) {
    report(cpu->name, "range", 2.0 * n, [&] { cpu->range(layer, weight.data(), low.data(), high.data(), 0, spans); });
    report(cpu->name, "rounding", 4.0 * n, [&] { cpu->forward(layer, plain, output, 0, spans); });
    report(cpu->name, "forward", 8.0 * n, [&] { cpu->forward(layer, tuned, output, 0, spans); });
    report(cpu->name, "sign_step", 12.0 * n,
           [&] { cpu->sign_step(layer, tuned, qdq_gradient, step, nullptr, 0, spans); });
    report(cpu->name, "encode", 7.0 * n, [&] {
      cpu->encode(layer, tuned, {codes.data(), scale.data(), nullptr}, 0, spans);
    });
    report(cpu->name, "decode", 3.0 * n, [&] {
      cpu->decode(layer, {codes.data(), scale.data(), nullptr}, qdq.data(), Element::kBF16, 0, spans);
    });
  }
}
