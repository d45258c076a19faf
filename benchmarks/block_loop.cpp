// SPDX-License-Identifier: Apache-2.0
// Where the time and the memory of tuning one block go, beside the bare matrix products that it needs: prints JSON. The
// block has random weights and the shape of a known model. Every round times everything once, so that what else the
// machine does hits all alike. Of a block with experts it also tells whether a data type that gets all of a stack at once
// is faster than one that gets them one by one.
//
//   block_loop_bench [--shape qwen2.5-0.5b] [--batch 8] [--seqlen 256] [--iters 4] [--rounds 3] [--device cuda]
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <malloc.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <ctime>
#include <fstream>
#include <iostream>
#include <map>
#include <optional>
#include <random>
#include <set>

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
#include "host/tuning/torch_view.h"
#include "host/tuning/units.h"
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
    {"qwen3-30b-a3b",
     {{"model_type", "qwen3_moe"},
      {"hidden_size", 2048},
      {"num_experts", 128},
      {"num_experts_per_tok", 8},
      {"moe_intermediate_size", 768},
      {"intermediate_size", 6144},
      {"norm_topk_prob", true},
      {"decoder_sparse_step", 1},
      {"mlp_only_layers", json::array()},
      {"num_attention_heads", 32},
      {"num_key_value_heads", 4},
      {"head_dim", 128},
      {"rope_theta", 1e6}}},
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

// Bytes that /proc/self/status has in kB: "VmRSS", "VmHWM".
int64_t status_bytes(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(key + ":")) return std::stoll(line.substr(key.size() + 1)) * 1024;
  throw Error(cat("/proc/self/status has no ", key));
}

// The largest resident memory while body() runs, above what there is before, in bytes.
template <typename Body>
int64_t peak_of(const TensorSource& source, Body&& body) {
  source.release_pages();
  malloc_trim(0);
  std::ofstream("/proc/self/clear_refs") << 5;  // VmHWM starts anew
  const int64_t before = status_bytes("VmRSS");
  body();
  return status_bytes("VmHWM") - before;
}

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
      const bool of_head = name.ends_with("q_norm.weight") || name.ends_with("k_norm.weight");
      const at::Tensor values = found == shapes.end() ? at::ones({of_head ? architecture.info().head_dim : hidden})
                                                      : at::randn(found->second).mul_(0.02);
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

// The parts of an iteration, at the loop's shapes and in its type: unit by unit of the sums.
class Parts {
 public:
  Parts(Problem& problem, const Options& options, at::Device device, at::ScalarType type)
      : device_(device),
        type_(type),
        decoder_(problem.architecture, problem.source, type, device),
        positions_(decoder_.positions(options.seqlen)),
        block_(decoder_.block(0)),
        info_(problem.architecture.info()) {
    for_units(options.batch, options.seqlen, [&](int64_t begin, int64_t end) {
      units_.push_back(random({end - begin, options.seqlen, info_.hidden}));
    });
    const at::IntArrayRef first = units_.front().sizes();
    target_ = random(first);
    mask_ = at::ones({first[0], first[1]}, at::TensorOptions(at::kByte).device(device));
    const auto head = [&](int64_t heads) {
      return random({first[0], first[1], heads, info_.head_dim}).set_requires_grad(true);
    };
    q_ = head(info_.heads), k_ = head(info_.kv_heads), v_ = head(info_.kv_heads);
    mixed_ = random({first[0], info_.heads, first[1], info_.head_dim});
    find_products();
    for (const LayerPlan& plan : problem.plan.layers) {
      if (plan.block != 0 || !plan.scheme.weight) continue;
      layers_.push_back(std::make_unique<LayerQuantizer>(problem.catalogue, plan,
                                                         problem.source.load(plan.info.name + ".weight"), device));
      LayerQuantizer& layer = *layers_.back();
      layer.prepare(layer.measure());
      layer.make_leaf(type, device);
      layer.forward();
      layer.leaf().set_requires_grad(true);
      by_name_[plan.info.name] = &layer;
      for (LinearSlot& slot : block_.linears())
        if (slot.info.name == plan.info.name) slot.weight = layer.leaf();
    }
  }

  json flops() const {
    double forward = 0, input_gradient = 0;
    for (const Product& p : products_) {
      forward += p.flops();
      if (p.needs_input_gradient) input_gradient += p.flops();
    }
    return {{"forward", forward}, {"weight_gradient", forward}, {"input_gradient", input_gradient}};
  }

  // What tuning cannot do without, in bytes.
  json memory(const TensorSource& source) {
    int64_t weights = 0, tunables = 0, gradient = 0;
    for (auto& layer : layers_) {
      weights += layer->leaf().numel() * 2;
      const rh_quantizer_info& info = layer->quantizer().info();
      for (uint32_t i = 0; i < info.tunable_count; ++i) tunables += allocate(*info.tunables[i], at::kCPU).nbytes();
      if (layer->plan().info.stack) gradient = std::max<int64_t>(gradient, layer->leaf().nbytes());
    }
    for (auto& layer : layers_) layer->leaf().set_requires_grad(false);
    const int64_t micro_batch = peak_of(
        source, [&] { block_.forward(units_[0].detach().set_requires_grad(true), positions_).backward(target_); });
    for (auto& layer : layers_) layer->leaf().set_requires_grad(true);
    return {{"weights", weights},
            {"tunables", tunables},
            {"best", tunables},
            {"micro_batch", micro_batch},
            {"leaf_and_gradient", 2 * gradient}};
  }

  json measure() {
    const KeepFreedTensors keep;  // as the loop does
    json out;
    out["forward"] = timed(device_, [&] {
      for (const Product& p : products_) {
        at::Tensor y = rows_of(outputs_, p.out, p.rows);
        at::mm_out(y, rows_of(inputs_, p.in, p.rows), p.weight.t());
      }
    });
    out["weight_gradient"] = timed(device_, [&] {
      for (const Product& p : products_)
        at::mm_out(gradients_.at({p.out, p.in}), rows_of(outputs_, p.out, p.rows).t(), rows_of(inputs_, p.in, p.rows));
    });
    out["input_gradient"] = timed(device_, [&] {
      for (const Product& p : products_) {
        at::Tensor dx = rows_of(input_gradients_, p.in, p.rows);
        if (p.needs_input_gradient) at::mm_out(dx, rows_of(outputs_, p.out, p.rows), p.weight);
      }
    });
    out["attention"] = timed(device_, [&] {
      for (size_t i = 0; i < units_.size(); ++i)
        at::scaled_dot_product_attention(q_.transpose(1, 2), k_.transpose(1, 2), v_.transpose(1, 2), std::nullopt,
                                         /*dropout_p=*/0, /*is_causal=*/true, std::nullopt,
                                         /*enable_gqa=*/info_.heads != info_.kv_heads)
            .backward(mixed_);
    });
    block_.set_expert_gradient_hook([&](const LinearInfo& linear, Rows x, Rows dy) {
      by_name_.at(linear.name)->gradient().add_product(std::move(x), std::move(dy));
    });
    out["block"] = timed(device_, [&] {
      for (const at::Tensor& unit : units_) {
        block_.forward(unit, positions_).backward(target_.slice(0, 0, unit.size(0)));
        for (auto& layer : layers_) layer->gradient().end_unit(std::exchange(layer->leaf().mutable_grad(), {}));
      }
      for (auto& layer : layers_) layer->gradient().take();
    });
    block_.set_expert_gradient_hook({});
    const auto stepped = [&](auto& layer) { return uses_.contains(layer->plan().info.name); };
    out["qdq"] = timed(device_, [&] {
      for (auto& layer : layers_) layer->forward();
    });
    out["step"] = timed(device_, [&] {
      const at::Tensor rate = at::scalar_tensor(0.005, at::TensorOptions(at::kFloat).device(device_));
      for (auto& layer : layers_)
        if (stepped(layer)) layer->step(gradients_.at({layer->leaf().size(0), layer->leaf().size(1)}), {rate, rate});
    });
    out["loss"] = timed(device_, [&] {
      for (const at::Tensor& unit : units_)
        masked_squared_error(unit, target_.slice(0, 0, unit.size(0)), mask_.slice(0, 0, unit.size(0)), 1.0);
    });
    for (at::Tensor* tensor : {&q_, &k_, &v_}) tensor->mutable_grad().reset();
    return out;
  }

 private:
  // Of a linear with the tokens of a unit that reach it. x, y and their like share memory where their width is equal.
  struct Product {
    at::Tensor weight;  // [out, in]
    int64_t rows, out, in;
    bool needs_input_gradient;  // the block's own input has none, and so what reads it needs none
    double flops() const {
      return 2.0 * static_cast<double>(rows) * static_cast<double>(out) * static_cast<double>(in);
    }
  };
  using ByWidth = std::map<int64_t, at::Tensor>;

  at::Tensor random(at::IntArrayRef shape) const { return at::randn(shape, at::TensorOptions(type_)).to(device_); }
  static at::Tensor rows_of(const ByWidth& tensors, int64_t width, int64_t rows) {
    return tensors.at(width).slice(0, 0, rows);
  }

  void find_products() {
    const at::NoGradGuard no_grad;
    const std::string first_input = block_.linears().front().info.siblings;
    std::map<std::string, at::Tensor> weights;
    for (LinearSlot& slot : block_.linears()) weights[slot.info.name] = slot.weight;
    int64_t most = 0;
    block_.set_input_hook([&](const LinearInfo& linear, const at::Tensor& input) {
      const int64_t rows = input.numel() / linear.in_features;
      most = std::max(most, rows);
      products_.push_back(
          {weights.at(linear.name), rows, linear.out_features, linear.in_features, linear.siblings != first_input});
      uses_.insert(linear.name);
      return input;
    });
    for (const at::Tensor& unit : units_) block_.forward(unit, positions_);
    block_.set_input_hook({});
    for (const Product& p : products_) {
      for (const auto& [tensors, width] : {std::pair(&inputs_, p.in), {&outputs_, p.out}, {&input_gradients_, p.in}})
        if (!tensors->contains(width)) tensors->emplace(width, random({most, width}));
      if (!gradients_.contains({p.out, p.in})) gradients_[{p.out, p.in}] = random({p.out, p.in});
    }
  }

  at::Device device_;
  at::ScalarType type_;
  Decoder decoder_;
  PositionData positions_;
  Block block_;
  const DecoderInfo& info_;
  std::vector<at::Tensor> units_;  // [samples, seq, hidden]
  at::Tensor target_, mask_, q_, k_, v_, mixed_;
  std::vector<Product> products_;
  std::set<std::string> uses_;  // the linears that got tokens
  ByWidth inputs_, outputs_, input_gradients_;
  std::map<std::pair<int64_t, int64_t>, at::Tensor> gradients_;  // by shape
  std::vector<std::unique_ptr<LayerQuantizer>> layers_;
  std::map<std::string, LayerQuantizer*> by_name_;
};

// What the data type's calls take for the experts of a stack one by one, and for all as one matrix: what a batch gives.
json stack_calls(Problem& problem, at::Device device, at::ScalarType type) {
  std::vector<const LayerPlan*> experts;
  for (const LayerPlan& plan : problem.plan.layers)
    if (plan.scheme.weight && plan.info.stack &&
        (experts.empty() || plan.info.stack->name == experts[0]->info.stack->name))
      experts.push_back(&plan);
  if (experts.empty()) return {};
  std::vector<at::Tensor> weights;
  for (const LayerPlan* plan : experts) weights.push_back(to_torch(problem.source.load(plan->info.name + ".weight")));
  LayerPlan whole = *experts[0];
  whole.info.out_features *= static_cast<int64_t>(experts.size());
  whole.info.stack.reset();
  const at::Tensor joined = at::cat(weights);
  json out{{"experts", experts.size()}, {"bytes", joined.nbytes()}};
  const auto measure = [&](const char* what, const auto& layers) {
    LayerQuantizers made;
    out[what]["rounding"] = timed(device, [&] {
      for (const auto& [plan, weight] : layers) {
        LayerPlan plain = *plan;
        plain.scheme.weight->rounding = Rounding::kPlain;
        LayerQuantizer layer(problem.catalogue, plain, from_torch(weight), device);
        layer.prepare(layer.measure());
        layer.encode();
      }
    });
    for (const auto& [plan, weight] : layers) {
      made.push_back(std::make_unique<LayerQuantizer>(problem.catalogue, *plan, from_torch(weight), device));
      made.back()->prepare(made.back()->measure());
      made.back()->make_leaf(type, device);
    }
    const at::Tensor rate = at::scalar_tensor(0.005, at::TensorOptions(at::kFloat).device(device)),
                     gradient = at::randn(made[0]->leaf().sizes()).to(device, type);
    for (int round = 0; round < 2; ++round) {  // the first touches the memory
      out[what]["qdq"] = timed(device, [&] {
        for (auto& layer : made) layer->forward();
      });
      out[what]["step"] = timed(device, [&] {
        for (auto& layer : made) layer->step(gradient, {rate, rate});
      });
    }
  };
  std::vector<std::pair<const LayerPlan*, at::Tensor>> one_by_one;
  for (size_t i = 0; i < experts.size(); ++i) one_by_one.emplace_back(experts[i], weights[i]);
  const std::vector<std::pair<const LayerPlan*, at::Tensor>> at_once{{&whole, joined}};
  measure("one_by_one", one_by_one);
  measure("at_once", at_once);
  return out;
}

// A whole run over the one block, with `iters` iterations.
json run_seconds(Problem& problem, const std::string& device, int64_t iters) {
  problem.plan.recipe.tuning.iters = iters;
  NoSink sink;
  return timed(at::Device(device), [&] {
    quantize({problem.plan, problem.architecture, problem.source, nullptr, problem.catalogue, problem.samples,
              std::nullopt, device},
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
  const at::ScalarType type = bfloat16 ? at::kBFloat16 : at::kFloat;
  Problem problem(options, folder);
  run_seconds(problem, name, 1);  // to warm up
  json rounds = json::array(), flops, memory;
  for (int64_t i = 0; i < options.rounds; ++i) {
    std::optional<Parts> parts(std::in_place, problem, options, device, type);
    parts->measure();
    json round = parts->measure();
    flops = parts->flops();
    if (i == 0) memory = parts->memory(problem.source);
    parts.reset();  // the runs have layers of their own
    if (const json calls = stack_calls(problem, device, type); !calls.is_null()) round["stack_calls"] = calls;
    round["short_run"] = run_seconds(problem, name, 1);
    json& whole = round["long_run"];
    const int64_t peak = peak_of(problem.source, [&] { whole = run_seconds(problem, name, 1 + options.iters); });
    memory["peak"] = std::max<int64_t>(peak, memory.value("peak", int64_t{0}));
    rounds.push_back(round);
  }
  memory["activations"] = problem.plan.activation_bytes;
  std::cout << json{{"shape", options.shape},
                    {"scheme", options.scheme},
                    {"batch", options.batch},
                    {"seqlen", options.seqlen},
                    {"device", options.device},
                    {"threads", threads()},
                    {"type", bfloat16 ? "bfloat16" : "float32"},
                    {"flops", flops},
                    {"memory", memory},
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
