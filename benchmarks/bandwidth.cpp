// SPDX-License-Identifier: Apache-2.0
// How fast each preset's data type rounds a 4096 x 4096 bfloat16 weight, in GB/s of bytes that must be read and
// written, beside memcpy with as many threads: prints JSON. ROUNDHOUSE_CPU_TARGET chooses the instruction set.
//
//   bandwidth [threads] [part of a preset's name]
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>

#include "host/abi/quantizer.h"
#include "host/base/error.h"
#include "host/base/parallel.h"
#include "host/discovery/scan.h"
#include "host/plan/scheme_resolver.h"
#include "host/recipe/scheme_choice.h"
#include "tests/dtypes/built_plugins.h"

namespace roundhouse {
namespace {

constexpr int64_t kSize = 4096;
constexpr int64_t kCachedRows = 64;  // of a weight that stays in the processor's cache, with all that its tuning reads
constexpr int kCachedCalls = 50;
constexpr int kRepeats = 5;

// Gigabytes a second of the fastest of kRepeats runs.
template <typename Body>
double speed(double bytes, Body&& body) {
  double best = 1e9;
  for (int i = 0; i < kRepeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    body();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return bytes / best / 1e9;
}

Tensor random_weight(int64_t rows) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.0f, 0.02f);
  const Tensor out(DType::kF32, {rows, kSize});
  for (int64_t i = 0; i < out.elements(); ++i) out.as<float>()[i] = normal(random);
  return out.to(DType::kBF16);
}

double copy_speed(const Tensor& weight, int calls) {
  const Tensor copy(DType::kBF16, weight.shape());
  const int64_t row = kSize * 2;
  return speed(2.0 * calls * weight.bytes(), [&] {
    for (int i = 0; i < calls; ++i)
      parallel_for(weight.dim(0), 16, [&](int64_t begin, int64_t end) {
        std::memcpy(copy.as<char>() + begin * row, weight.as<char>() + begin * row, (end - begin) * row);
      });
  });
}

// GB/s, each time over `calls` calls. null: nothing to round.
nlohmann::json measure(Catalogue& catalogue, const Preset& preset, const Tensor& weight, int calls) {
  const double n = static_cast<double>(weight.elements());
  const auto speed = [&](double bytes, auto&& body) {
    return roundhouse::speed(calls * bytes, [&] {
      for (int i = 0; i < calls; ++i) body();
    });
  };
  const Scheme scheme = resolve_scheme(catalogue, nlohmann::json::object(), preset.fields, Rounding::kPlain);
  if (!scheme.weight) return nullptr;
  Quantizer quantizer(catalogue.dtype(scheme.weight->dtype), *scheme.weight,
                      {"weight", "", weight.dim(0), kSize, DType::kBF16, RH_TARGET_WEIGHT});
  TensorSet statistic = quantizer.statistic(), states = quantizer.states(), tunables = quantizer.tunables(),
            encoded = quantizer.encoded();
  const rh_tensor input = weight.view();
  const Tensor qdq(DType::kBF16, weight.shape());
  rh_tensor output = qdq.view();
  const rh_tensor* reduced = statistic.size() ? statistic.data()[0] : nullptr;
  const auto prepare = [&] {
    if (reduced) quantizer.measure({}, input, statistic.data()[0]);
    quantizer.prepare({}, &input, nullptr, reduced, states.data());
  };
  // Rounding reads the weight and writes as much; tuning also reads (and the step writes) v.
  nlohmann::json row{{"preset", preset.name}, {"data_type", scheme.weight->dtype}};
  row["rounding"] = speed(4 * n, [&] {
    prepare();
    quantizer.forward({}, input, nullptr, states.data(), output);
  });
  row["encode"] =
      speed(2 * n + encoded[0].bytes(), [&] { quantizer.encode({}, input, nullptr, states.data(), encoded.data()); });
  if (quantizer.can_tune() && quantizer.has_sign_step()) {
    const Tensor rate(DType::kF32, {});
    *rate.as<float>() = 0.005f;
    const rh_tensor rate_view = rate.view();
    const rh_tensor* rates[] = {&rate_view, &rate_view};
    row["forward"] = speed(8 * n, [&] { quantizer.forward({}, input, tunables.data(), states.data(), output); });
    row["step"] = speed(12 * n, [&] { quantizer.sign_step({}, input, tunables.data(), states.data(), input, rates); });
  }
  return row;
}

}  // namespace
}  // namespace roundhouse

int main(int argc, char** argv) {
  using namespace roundhouse;
  if (argc == 3 && std::strcmp(argv[1], kScanArgument) == 0) scan_main(argv[2]);
  set_threads(argc > 1 ? std::atoi(argv[1]) : 0);
  const std::string part = argc > 2 ? argv[2] : "";
  const Tensor weight = random_weight(kSize), cached = random_weight(kCachedRows);
  Catalogue catalogue = discover_built_plugins();
  nlohmann::json out{{"threads", threads()}, {"presets", nlohmann::json::array()}};
  out["memcpy"] = copy_speed(weight, 1);
  out["memcpy_cached"] = copy_speed(cached, kCachedCalls);
  for (const Preset& preset : list_presets({ROUNDHOUSE_SOURCE "/configs/schemes"})) {
    if (preset.name.find(part) == std::string::npos) continue;
    try {
      nlohmann::json row = measure(catalogue, preset, weight, 1);
      if (row.is_null()) continue;
      row["cached"] = measure(catalogue, preset, cached, kCachedCalls);
      out["presets"].push_back(row);
    } catch (const Error& e) {
      std::cerr << preset.name << ": " << e.what() << "\n";
    }
  }
  std::cout << out.dump(1) << "\n";
}
