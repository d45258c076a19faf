// SPDX-License-Identifier: Apache-2.0
// Where the time of tuning one block goes, beside the bare matrix products that it needs: prints JSON. The block has
// random weights and the shape of a known model. Every round times everything once, so that what else the machine does
// hits all alike.
//
//   block_loop_bench [--shape qwen2.5-0.5b] [--batch 8] [--seqlen 256] [--iters 4] [--rounds 3] [--device cuda]
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <ctime>
#include <fstream>
#include <iostream>
#include <map>
#include <random>

#include "host/base/error.h"
#include "host/base/parallel.h"
#include "host/checkpoint/safetensors.h"
#include "host/checkpoint/writer.h"
#include "host/discovery/scan.h"
#include "host/model/decoder.h"
#include "host/plan/planner.h"
#include "host/tuning/caching_allocator.h"
#include "host/tuning/device.h"
#include "host/tuning/layer_quantizer.h"
#include "host/tuning/loss.h"
#include "host/tuning/quantize.h"
#include "tests/dtypes/built_plugins.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int64_t kVocab = 2048;

struct Options {
  std::string shape = "qwen2.5-0.5b", scheme = "W4A16", device = "cpu";
  int64_t batch = 8, seqlen = 256, iters = 4, rounds = 3, threads = 0;
};

const std::map<std::string, json> kShapes{
    {"qwen2.5-0.5b",
     {{"model_type", "qwen2"},
      {"hidden_size", 896},
      {"intermediate_size", 4864},
      {"num_attention_heads", 14},
      {"num_key_value_heads", 2},
      {"rope_theta", 1e6}}},
    {"llama-3.1-8b",
     {{"model_type", "llama"},
      {"hidden_size", 4096},
      {"intermediate_size", 14336},
      {"num_attention_heads", 32},
      {"num_key_value_heads", 8},
      {"rope_theta", 5e5}}},
};

// Seconds by the clock and of all processors.
struct Timer {
  explicit Timer(at::Device device) : device(device) { wait(); }
  json stop() const {
    wait();
    return {{"seconds", std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()},
            {"processor_seconds", static_cast<double>(std::clock() - processor_start) / CLOCKS_PER_SEC}};
  }
  // Until the device has done all that it was given.
  void wait() const {
    if (device.is_cuda()) at::zeros({1}, device).item<float>();
  }

  at::Device device;
  std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
  std::clock_t processor_start = std::clock();
};

template <typename Body>
json timed(at::Device device, Body&& body) {
  const Timer timer(device);
  body();
  return timer.stop();
}

// A checkpoint of one random block, and a recipe for it.
struct Problem {
  Problem(const Options& options, const fs::path& folder)
      : architecture(write_config(options, folder)),
        source(write_weights(architecture, folder)),
        catalogue(discover_built_plugins()),
        plan(make_plan(write_recipe(options, folder), architecture, source, catalogue)) {
    std::mt19937 random(1);
    samples.resize(static_cast<size_t>(2 * options.batch));
    for (auto& sample : samples)
      for (int64_t i = 0; i < options.seqlen; ++i) sample.push_back(static_cast<int32_t>(random() % kVocab));
  }

  static Architecture write_config(const Options& options, const fs::path& folder) {
    json config = kShapes.at(options.shape);
    config.update({{"num_hidden_layers", 1},
                   {"vocab_size", kVocab},
                   {"max_position_embeddings", options.seqlen},
                   {"rms_norm_eps", 1e-6},
                   {"tie_word_embeddings", true},
                   {"hidden_act", "silu"}});
    std::ofstream(folder / "config.json") << config;
    return Architecture::load(folder, {fs::path(ROUNDHOUSE_SOURCE) / "configs/architectures"});
  }

  static fs::path write_weights(const Architecture& architecture, const fs::path& folder) {
    const int64_t hidden = architecture.hidden_size();
    std::map<std::string, std::vector<int64_t>> shapes{{architecture.embedding_name() + ".weight", {kVocab, hidden}}};
    for (const LinearInfo& linear : architecture.block_linears(0)) {
      shapes[linear.name + ".weight"] = {linear.out_features, linear.in_features};
      if (linear.has_bias) shapes[linear.name + ".bias"] = {linear.out_features};
    }
    std::vector<std::string> names = architecture.block_tensors(0);
    for (std::string& name : architecture.outer_tensors()) names.push_back(std::move(name));
    std::vector<std::pair<std::string, Tensor>> tensors;
    for (const std::string& name : names) {
      const auto found = shapes.find(name);  // the others are the weights of norms
      const at::Tensor values = found == shapes.end() ? at::ones({hidden}) : at::randn(found->second).mul_(0.02);
      tensors.emplace_back(name, from_torch(values.to(at::kBFloat16)));
    }
    write_safetensors_file(folder / "model.safetensors", tensors);
    return folder;
  }

  static Recipe write_recipe(const Options& options, const fs::path& folder) {
    const fs::path file = folder / "recipe.yaml";
    std::ofstream(file) << "version: 1\nmodel: .\noutput: out\nformats: [fake]\nscheme: " << options.scheme
                        << "\ncalibration: {data: recipe.yaml, samples: " << 2 * options.batch
                        << ", seqlen: " << options.seqlen << ", batch_size: " << options.batch << "}\n";
    return load_recipe(file, {}, {fs::path(ROUNDHOUSE_SOURCE) / "configs/schemes"});
  }

  Architecture architecture;
  SafetensorsFolder source;
  Catalogue catalogue;
  Plan plan;
  std::vector<std::vector<int32_t>> samples;
};

struct NoSink : QuantizeSink {
  void layer(const EncodedLayer&) override {}
  void tensor(const std::string&, const Tensor&) override {}
  void iteration(int64_t, int64_t, double) override {}
  void block_done(const BlockReport&) override {}
};

// The parts of an iteration, at the loop's shapes and in its type.
class Parts {
 public:
  Parts(Problem& problem, const Options& options, at::Device device, at::ScalarType type)
      : device_(device),
        decoder_(problem.architecture, problem.source, type, device),
        positions_(decoder_.positions(options.seqlen)),
        block_(decoder_.block(0)),
        info_(problem.architecture.info()) {
    const int64_t tokens = options.batch * options.seqlen;
    const auto random = [&](at::IntArrayRef shape) { return at::randn(shape, at::TensorOptions(type)).to(device); };
    hidden_ = random({options.batch, options.seqlen, info_.hidden});
    target_ = random(hidden_.sizes());
    mask_ = at::ones({options.batch, options.seqlen}, at::TensorOptions(at::kByte).device(device));
    const auto head = [&](int64_t heads) {
      return random({options.batch, options.seqlen, heads, info_.head_dim}).set_requires_grad(true);
    };
    q_ = head(info_.heads), k_ = head(info_.kv_heads), v_ = head(info_.kv_heads);
    mixed_ = random({options.batch, info_.heads, options.seqlen, info_.head_dim});
    const std::string first_input = block_.linears().front().info.siblings;
    for (LinearSlot& slot : block_.linears()) {
      const at::Tensor x = random({tokens, slot.info.in_features}), dy = random({tokens, slot.info.out_features});
      Product product{x, dy, slot.weight, at::empty_like(dy), at::empty_like(slot.weight), at::empty_like(x),
                      2 * static_cast<double>(tokens) * static_cast<double>(slot.weight.numel()),
                      // The block's own input has no gradient, and so what reads it needs none.
                      slot.info.siblings != first_input};
      products_.push_back(std::move(product));
    }
    for (const LayerPlan& plan : problem.plan.layers) {
      if (plan.block != 0 || !plan.scheme.weight) continue;
      layers_.push_back(std::make_unique<LayerQuantizer>(problem.catalogue, plan,
                                                         problem.source.load(plan.info.name + ".weight"), device));
      LayerQuantizer& layer = *layers_.back();
      layer.prepare(layer.measure());
      layer.make_leaf(type, device);
      layer.forward();
      gradients_.push_back(random(layer.leaf().sizes()));
      layer.leaf().set_requires_grad(true);
      for (LinearSlot& slot : block_.linears())
        if (slot.info.name == plan.info.name) slot.weight = layer.leaf();
    }
  }

  json flops() const {
    double forward = 0, input_gradient = 0;
    for (const Product& p : products_) {
      forward += p.flops;
      if (p.needs_input_gradient) input_gradient += p.flops;
    }
    return {{"forward", forward}, {"weight_gradient", forward}, {"input_gradient", input_gradient}};
  }

  json measure() {
    const KeepFreedTensors keep;  // as the loop does
    json out;
    out["forward"] = timed(device_, [&] {
      for (Product& p : products_) at::mm_out(p.y, p.x, p.weight.t());
    });
    out["weight_gradient"] = timed(device_, [&] {
      for (Product& p : products_) at::mm_out(p.dw, p.dy.t(), p.x);
    });
    out["input_gradient"] = timed(device_, [&] {
      for (Product& p : products_)
        if (p.needs_input_gradient) at::mm_out(p.dx, p.dy, p.weight);
    });
    out["attention"] = timed(device_, [&] {
      at::scaled_dot_product_attention(q_.transpose(1, 2), k_.transpose(1, 2), v_.transpose(1, 2), std::nullopt,
                                       /*dropout_p=*/0, /*is_causal=*/true, std::nullopt,
                                       /*enable_gqa=*/info_.heads != info_.kv_heads)
          .backward(mixed_);
    });
    out["block"] = timed(device_, [&] { block_.forward(hidden_, positions_).backward(target_); });
    out["qdq"] = timed(device_, [&] {
      for (auto& layer : layers_) layer->forward();
    });
    out["step"] = timed(device_, [&] {
      const at::Tensor rate = at::scalar_tensor(0.005, at::TensorOptions(at::kFloat).device(device_));
      for (size_t i = 0; i < layers_.size(); ++i) layers_[i]->step(gradients_[i], {rate, rate});
    });
    out["loss"] = timed(device_, [&] { masked_squared_error(hidden_, target_, mask_, 1.0); });
    for (at::Tensor* tensor : {&q_, &k_, &v_}) tensor->mutable_grad().reset();
    for (auto& layer : layers_) layer->leaf().mutable_grad().reset();
    return out;
  }

 private:
  struct Product {
    at::Tensor x, dy, weight;  // [tokens, in], [tokens, out], [out, in]
    at::Tensor y, dw, dx;      // results, which reuse their memory
    double flops;              // of each of its products
    bool needs_input_gradient;
  };

  at::Device device_;
  Decoder decoder_;
  PositionData positions_;
  Block block_;
  const DecoderInfo& info_;
  at::Tensor hidden_, target_, mask_, q_, k_, v_, mixed_;
  std::vector<Product> products_;
  std::vector<std::unique_ptr<LayerQuantizer>> layers_;
  std::vector<at::Tensor> gradients_;
};

// A whole run over the one block, with `iters` iterations.
json run_seconds(Problem& problem, const std::string& device, int64_t iters) {
  problem.plan.recipe.tuning.iters = iters;
  NoSink sink;
  return timed(at::Device(device), [&] {
    quantize(
        {problem.plan, problem.architecture, problem.source, problem.catalogue, problem.samples, std::nullopt, device},
        sink);
  });
}

void bench(const Options& options, const fs::path& folder) {
  set_threads(static_cast<int>(options.threads));
  at::set_num_threads(threads());
  const std::string name =
      resolve_device({options.device == "cpu" ? DeviceChoice::Kind::kCpu : DeviceChoice::Kind::kCuda});
  const at::Device device(name);
  // As the tuning chooses it.
  const bool bfloat16 = device.is_cuda() || __builtin_cpu_supports("avx512bf16");
  Problem problem(options, folder);
  Parts parts(problem, options, device, bfloat16 ? at::kBFloat16 : at::kFloat);
  parts.measure();  // to warm up
  run_seconds(problem, name, 1);
  json rounds = json::array();
  for (int64_t i = 0; i < options.rounds; ++i) {
    json round = parts.measure();
    round["short_run"] = run_seconds(problem, name, 1);
    round["long_run"] = run_seconds(problem, name, 1 + options.iters);
    rounds.push_back(round);
  }
  std::cout << json{{"shape", options.shape},
                    {"scheme", options.scheme},
                    {"batch", options.batch},
                    {"seqlen", options.seqlen},
                    {"device", options.device},
                    {"threads", threads()},
                    {"type", bfloat16 ? "bfloat16" : "float32"},
                    {"flops", parts.flops()},
                    {"iterations", options.iters},
                    {"rounds", rounds}}
                   .dump(1)
            << "\n";
}

}  // namespace
}  // namespace roundhouse

int main(int argc, char** argv) {
  using namespace roundhouse;
  if (argc == 3 && std::strcmp(argv[1], kScanArgument) == 0) scan_main(argv[2]);
  CLI::App app("Times the tuning of one block and its parts beside the bare matrix products; prints JSON");
  Options options;
  std::vector<std::string> names;
  for (const auto& [name, config] : kShapes) names.push_back(name);
  app.add_option("--shape", options.shape)->check(CLI::IsMember(names))->capture_default_str();
  app.add_option("--scheme", options.scheme, "A preset")->capture_default_str();
  app.add_option("--device", options.device)->check(CLI::IsMember({"cpu", "cuda"}))->capture_default_str();
  app.add_option("--batch", options.batch)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--seqlen", options.seqlen)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--iters", options.iters)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--rounds", options.rounds)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--threads", options.threads, "0: all processors")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  const fs::path folder = fs::temp_directory_path() / ("roundhouse_block_loop_" + std::to_string(getpid()));
  fs::create_directories(folder);
  int status = 0;
  try {
    bench(options, folder);
  } catch (const std::exception& failure) {
    std::cerr << failure.what() << "\n";
    status = 1;
  }
  fs::remove_all(folder);
  return status;
}
