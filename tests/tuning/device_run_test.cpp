// SPDX-License-Identifier: Apache-2.0
// Runs on a device that is not the CPU: one that stands for a GPU. The plugins have no kernels for it, so that their
// tensors move.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <c10/util/Exception.h>
#include <dlfcn.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <thread>

#include "host/base/cpu.h"
#include "host/base/error.h"
#include "host/base/files.h"
#include "host/model/accelerator.h"
#include "host/model/gated_scan.h"
#include "host/model/kernels_of_cuda.h"
#include "host/model/logits.h"
#include "host/model/perplexity.h"
#include "host/model/torch_tensor.h"
#include "host/plan/mix.h"
#include "host/run/mix_cache.h"
#include "host/run/run_sink.h"
#include "host/tuning/activation_quantizer.h"
#include "host/tuning/input_quantization.h"
#include "host/tuning/round.h"
#include "host/tuning/rounded_source.h"
#include "host/tuning/sensitivity.h"
#include "kernels/cuda/block.h"
#include "tests/tuning/pretend_device.h"
#include "tests/tuning/quantize_fixture.h"

// The emulation of CUDA calls it around each launch.
extern "C" __attribute__((visibility("default"))) void cuda_emulation_memory(bool open) {
  roundhouse::pretend::let_kernels_in(open);
}

namespace roundhouse {
namespace {

using namespace std::string_literals;
class OnADevice : public QuantizeTest {
 protected:
  // A model with a weight that needs a scale beyond float16.
  fs::path with_large_weight(const std::string& layer) {
    return changed(kUntied, [&](auto& tensors) {
      Tensor& weight = tensors.at(layer + ".weight");
      at::Tensor values = to_torch(weight).to(at::kFloat).clone();
      values[3][7] = 1e9;
      weight = from_torch(values);
    });
  }
};

constexpr double kLossError = 1e-6;
const std::string kDevice = "pretend:1";  // not the one that is current

TEST_F(OnADevice, RunsGiveTheBitsOfTheCpu) {
  const std::string ranges = ", act_data_type: grid, act_bits: 8, act_group_size: 0, act_dynamic: false}\n";
  for (const std::string& recipe :
       {"scheme: W4A16\ntuning: {iters: 3}\n"s, "scheme: W4A16\ntuning: {iters: 3, quantized_input: false}\n"s,
        "scheme: NVFP4\ntuning: {iters: 3}\n"s,
        "scheme: {data_type: int, group_size: 32" + ranges + "tuning: {iters: 3}\nlayers: [{match: lm_head}]\n",
        "scheme: {data_type: weighted}\ntuning: {iters: 0, search: true}\n"s,
        "scheme: W4A16\ntuning: {iters: 3}\nmemory: 50KiB\n"s}) {
    SCOPED_TRACE(recipe);
    Problem p = problem(kUntied, recipe);
    const Recording expected = p.quantized();
    testing::internal::CaptureStderr();
    const Recording got = p.quantized(kDevice);
    const std::string said = testing::internal::GetCapturedStderr();
    const std::string moved = recipe.find("iters: 0") == std::string::npos
                                  ? ": each iteration moves its weights to the CPU and back. "
                                  : ": its weights are rounded on the CPU. ";
    EXPECT_NE(said.find(" has no kernels for " + kDevice + moved), std::string::npos) << said;
    EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
    expect_same(expected, got, kLossError);
    ASSERT_EQ(expected.seen.importance.size(), got.seen.importance.size());
    for (const auto& [name, squares] : expected.seen.importance)
      expect_same({squares.sums}, {got.seen.importance.at(name).sums});
    EXPECT_EQ(pretend::live_bytes(), 0) << "the device's memory is given back";
  }
}

// In an iteration the host waits for what the plugins need, which have no kernels for the device: whether the loss
// improved, and each layer's weight, one way and back. It waits for nothing of its own.
TEST_F(OnADevice, IterationsDoNotWait) {
  const auto waits = [&](int64_t iterations) {
    Problem p = problem(kUntied, "scheme: W4A16\ntuning: {iters: " + std::to_string(iterations) + "}\n");
    pretend::take_waits();
    p.quantized(kDevice);
    std::map<std::string, int64_t> count;
    for (const pretend::Wait& wait : pretend::take_waits()) ++count[wait.what + ", " + std::to_string(wait.elements)];
    return count;
  };
  std::map<std::string, int64_t> expected{{"a copy to the host, 1", 1}};  // of an iteration and block
  Problem p = problem(kUntied, "scheme: W4A16\n");
  for (const LinearInfo& linear : p.architecture.block_linears(0)) {
    const std::string elements = std::to_string(linear.out_features * linear.in_features);
    ++expected["a copy to the host, " + elements];
    ++expected["a copy from the host, " + elements];
  }
  std::map<std::string, int64_t> few = waits(10), more;
  constexpr int64_t kMoreIterations = 10, kBlocks = 2;
  for (const auto& [what, count] : waits(10 + kMoreIterations))
    if (count != few[what]) more[what] = count - few[what];
  for (auto& [what, count] : expected) count *= kMoreIterations * kBlocks;
  // Which samples each iteration takes: once a block, for inputs, targets and mask.
  expected["a copy from the host, " + std::to_string(4 * (10 + kMoreIterations))] = 3 * kBlocks;
  EXPECT_EQ(more, expected);
}

// Plugins get the device as CUDA's.
struct AsCuda {
  AsCuda() { cuda_of_plugins = at::kPrivateUse1; }
  ~AsCuda() { cuda_of_plugins = at::kCUDA; }
};
const std::string kEmulated = "scheme: {data_type: emulated_int, bits: 4, group_size: 32}\ntuning: {iters: 12}\n";
const std::string kRounded =
    kEmulated.substr(0, kEmulated.find('\n')) + "\ntuning: {iters: 0}\nimatrix: {save: x.dat}\n";
const std::string kFirst = "pretend:0";  // the emulation has one device

// The whole way of a GPU, kernels of a plugin included: nothing of it moves or waits in an iteration. Scales that the
// plugin searches on the CPU are found before the first one.
TEST_F(OnADevice, KernelsGiveTheBitsOfTheCpuWithoutAWait) {
  for (const std::string& recipe : {kEmulated,
                                    "scheme: {data_type: emulated_q4_0, bits: 4, group_size: 32}\n"
                                    "tuning: {iters: 12, algorithm: signround2}\n"s}) {
    SCOPED_TRACE(recipe);
    Problem p = problem(kUntied, recipe);
    const Recording expected = p.quantized();
    const AsCuda as_cuda;
    testing::internal::CaptureStderr();
    const auto waits = [&](int64_t iterations) {
      p.plan.recipe.tuning.iters = iterations;
      pretend::take_waits();
      const Recording got = p.quantized(kFirst);
      if (iterations == 12) expect_same(expected, got, kLossError);
      return pretend::take_waits().size();
    };
    EXPECT_EQ(waits(12), waits(25));
    EXPECT_EQ(testing::internal::GetCapturedStderr(), "") << "no move to the CPU";
    EXPECT_EQ(pretend::live_bytes(), 0);
  }
}

// As on a GPU, the host's own kernels do what is element-wise in a block. Their exp() and sums are not the CPU's, and
// signs of gradients near 0 turn for less: a block's losses are near, its codes nearly all the same.
TEST_F(OnADevice, TheHostsKernelsTuneAlmostAsTheCpu) {
  Problem p = problem(kUntied, kEmulated);
  const auto quantized = [&](const std::string& algorithm, const std::string& device) {
    auto& chosen = p.plan.recipe.tuning.algorithm;
    using Algorithm = std::remove_reference_t<decltype(chosen)>;
    chosen = algorithm == "signround2" ? Algorithm::kSignround2 : Algorithm::kSignround;
    return p.quantized(device);
  };
  for (const std::string algorithm : {"signround", "signround2"}) {  // the second leaves outliers out of the loss
    SCOPED_TRACE(algorithm);
    const Recording expected = quantized(algorithm, "cpu");
    const AsCuda as_cuda;
    kernels_of_cuda = &kernels::block_cuda();
    pretend::take_operators();
    pretend::take_waits();
    const Recording got = quantized(algorithm, kFirst);
    const size_t waits = pretend::take_waits().size();
    const std::vector<std::string> operators = pretend::take_operators();
    p.plan.recipe.tuning.iters += 13;
    quantized(algorithm, kFirst);
    p.plan.recipe.tuning.iters -= 13;
    kernels_of_cuda = nullptr;
    EXPECT_EQ(pretend::take_waits().size(), waits) << "an iteration waits";
    for (const std::string name : {"aten::silu.out", "aten::silu_backward.grad_input", "aten::where.self_out"})
      EXPECT_EQ(std::count(operators.begin(), operators.end(), name), 0) << name;
    ASSERT_EQ(expected.blocks.size(), got.blocks.size());
    for (size_t i = 0; i < got.blocks.size(); ++i) {
      EXPECT_NEAR(got.blocks[i].first_loss, expected.blocks[i].first_loss, 0.01 * expected.blocks[i].first_loss);
      EXPECT_NEAR(got.blocks[i].best_loss, expected.blocks[i].best_loss, 0.02 * expected.blocks[i].best_loss);
    }
    EXPECT_EQ(pretend::live_bytes(), 0);
  }
}

// Each weight is uploaded once for its kernels and the forward pass; those of later blocks were put ready by a thread
// while the block before was tuned, so that nothing waits for them.
TEST_F(OnADevice, WeightsAreUploadedOnceAndLaterOnesAheadOfTime) {
  Problem p = problem(kUntied, kEmulated);
  p.draw_samples(8, 12);  // no tensor of activations has a weight's size
  const AsCuda as_cuda;
  pretend::take_waits();
  p.quantized(kFirst);
  std::map<int64_t, int64_t> waits, expected;
  for (const pretend::Wait& wait : pretend::take_waits())
    if (wait.what == "a copy from the host") ++waits[wait.elements];
  for (const LinearInfo& linear : p.architecture.block_linears(0)) ++expected[linear.out_features * linear.in_features];
  for (const auto& [elements, count] : expected) EXPECT_EQ(waits[elements], count) << elements;
}

// Counts how often each tensor is read.
struct CountingFolder : SafetensorsFolder {
  using SafetensorsFolder::SafetensorsFolder;
  Tensor load(const std::string& name) override {
    ++reads[name];
    return SafetensorsFolder::load(name);
  }
  std::map<std::string, int64_t> reads;
};

// Host memory has room for part of a block's weights: the others are read and uploaded in their turn.
TEST_F(OnADevice, NoMoreIsReadAheadThanHasRoom) {
  Problem p = problem(kUntied, kRounded);
  p.draw_samples(8, 12);
  const AsCuda as_cuda;
  const Recording expected = p.quantized(kFirst);
  std::vector<uint64_t> bytes;  // of the second block's weights, in order
  for (const LayerPlan& layer : p.plan.layers)
    if (layer.block == 1) bytes.push_back(p.source.load(layer.info.name + ".weight").bytes());
  const auto waits = [&](uint64_t ahead) {
    pretend::take_waits();
    CountingFolder source(kUntied);
    Recording sink;
    quantize({p.plan, p.architecture, source, nullptr, p.catalogue, p.samples, std::nullopt, kFirst, nullptr, ahead},
             sink);
    expect_same(expected, sink);
    for (const auto& [layer, encoded] : sink.layers) EXPECT_EQ(source.reads[layer + ".weight"], 1) << layer;
    const std::vector<pretend::Wait> all = pretend::take_waits();
    return std::count_if(all.begin(), all.end(), [](const auto& w) { return w.what == "a copy from the host"; });
  };
  const auto none = waits(0), two = waits(bytes[0] + bytes[1]), all = waits(uint64_t{1} << 30);
  EXPECT_EQ(none - two, 2);
  EXPECT_EQ(none - all, static_cast<int64_t>(bytes.size()));
  EXPECT_EQ(waits(bytes[0] + bytes[1] - 1), two + 1);
}

// Activations in host memory are on their way to the device in two buffers for each chain, however far the host could go
// ahead. A buffer has at most the samples that a block's errors are taken over.
TEST_F(OnADevice, ActivationsInHostMemoryTravelThroughTwoBuffers) {
  Problem p = problem(kTied, kEmulated);
  p.draw_samples(64, 256);
  p.plan.recipe.calibration.batch_size = 8;
  const AsCuda as_cuda;
  const auto peak = [&](std::optional<int64_t> memory) {
    p.plan.recipe.memory = memory;
    pretend::take_peak_pinned_bytes();
    p.quantized(kFirst);
    return pretend::take_peak_pinned_bytes();
  };
  const int64_t unit = 1024 * p.architecture.hidden_size() * 4;
  EXPECT_LE(peak(1 << 30) - peak(std::nullopt), 2 * 2 * 4 * unit);
}

// Kernels do not wait to tell of a scale beyond its type: the host learns of it where it waits, and names the layer.
TEST_F(OnADevice, WhatKernelsCannotRepresentIsAnErrorByName) {
  const std::string name = "model.layers.1.mlp.up_proj";
  const fs::path model = with_large_weight(name);
  const auto said = [&](const std::string& recipe, const std::string& device) {
    Problem p = problem(model, recipe);
    try {
      p.quantized(device);
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  EXPECT_NE(said(kEmulated, "cpu").find("set scale_dtype to bfloat16 or float32"), std::string::npos);
  const AsCuda as_cuda;
  for (const std::string& recipe : {kEmulated, kRounded}) {
    const std::string text = said(recipe, kFirst);
    for (const std::string& part : {"block 1: "s, name, "a scale is beyond its element type: set scale_dtype to "s})
      EXPECT_NE(text.find(part), std::string::npos) << text;
  }
  EXPECT_EQ(pretend::live_bytes(), 0);
}

// So does the measurement of a mix, and the comparison with plain rounding.
TEST_F(OnADevice, WhatKernelsCannotRepresentIsAnErrorWithoutARunToo) {
  const std::string name = "model.layers.1.mlp.up_proj";
  const fs::path model = with_large_weight(name);
  const AsCuda as_cuda;
  const auto expect_said = [&](const std::function<void()>& call) {
    try {
      call();
      ADD_FAILURE() << "no error";
    } catch (const Error& e) {
      const std::string text = e.what();
      EXPECT_NE(text.find(name + ": a scale is beyond its element type: set scale_dtype to "), std::string::npos)
          << text;
    }
  };
  Problem p = problem(model, kEmulated);
  expect_said([&] { rounded_source(p.plan, p.source, p.catalogue, {}, kFirst)->load(name + ".weight"); });

  const std::string scheme = "{data_type: emulated_int, group_size: 32, bits: ";
  const Recipe mixed = recipe(model, "scheme: {mix: [" + scheme + "2}, " + scheme + "4}], target: 3.6 bits}\n" +
                                         "tuning: {iters: 0, search: false}\n");
  const Plan plan = plan_recipe(mixed, p.architecture, p.source, p.catalogue);
  expect_said([&] {
    measure_sensitivities({*plan.mix, p.architecture, p.source, p.catalogue, p.samples, std::nullopt, kFirst});
  });
  EXPECT_EQ(pretend::live_bytes(), 0);
}

// Ranges of inputs, calibrated or stored in a checkpoint.
TEST_F(OnADevice, RangesThatAreNotFiniteAreAnErrorByName) {
  DiscoveryOptions options;
  options.directories = {FIXTURES "/emulated"};
  options.use_cache = false;
  Catalogue catalogue = Catalogue::discover(options);
  LayerPlan plan;
  plan.info = {"some.layer", "some", "", 4, 6, false};
  TensorScheme& scheme = plan.scheme.activation.emplace();
  scheme.dtype = "fp8";
  scheme.bits = 8;
  scheme.group_cols = RH_GROUP_TENSOR;
  scheme.dynamic = false;
  const auto expect_said = [&](const std::function<void()>& call) {
    try {
      call();
      ADD_FAILURE() << "no error";
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find("some.layer: a value is NaN or infinite"), std::string::npos) << e.what();
    }
  };
  const AsCuda as_cuda;
  at::Tensor range = at::full({1}, 2.0f);
  ActivationQuantizer calibrated(catalogue, plan, at::kFloat, kFirst);
  ASSERT_TRUE(calibrated.calibrated());
  ASSERT_FALSE(calibrated.on_device().device().is_cpu());
  calibrated.prepare(range);
  const rh_encoding& encoding = calibrated.encoding();
  TensorSet stored(encoding.tensors, encoding.tensor_count);
  auto& scale = *static_cast<float*>(stored.data()[0]->data);
  scale = calibrated.encode().at(0).as<float>()[0];
  ActivationQuantizer(catalogue.dtype("fp8"), plan.info, encoding, stored, kFirst);
  expect_said([&] { calibrated.prepare(range.fill_(INFINITY)); });
  expect_said([&] {
    scale = INFINITY;
    ActivationQuantizer(catalogue.dtype("fp8"), plan.info, encoding, stored, kFirst);
  });
}

// What the measurement of a mix keeps between all blocks stays in host memory where the card has no room for it.
TEST_F(OnADevice, AMixIsMeasuredWithinTheCardsMemory) {
  ASSERT_TRUE(dlopen(FAKE_DRIVER, RTLD_NOW)) << dlerror();  // from now on this one has the name
  ::setenv("XDG_CACHE_HOME", folder_.path().c_str(), 1);
  const Recipe mixed = recipe(kUntied, "scheme: {mix: [W2A16G32, W4A16G32], target: 3 bits}\ntuning: {iters: 0}\n");
  Catalogue& catalogue = Problem::discover();
  const Original original = open_original(catalogue, mixed, {Problem::configs() / "architectures"});
  const Plan plan = plan_recipe(mixed, original, catalogue);
  Problem p = problem(kUntied, "scheme: W4A16\n");
  p.draw_samples(16, 256);
  const auto peak = [&](const char* bytes_of_card) {
    ::setenv("FAKE_CUDA_MEMORY", bytes_of_card, 1);
    pretend::take_peak_bytes();
    const auto settled = settle_mix(plan, original, catalogue, {p.samples, {}, std::nullopt}, kFirst, Measuring::kAnew);
    EXPECT_EQ(pretend::live_bytes(), 0);
    return std::pair(pretend::take_peak_bytes(), settled->mix->chosen->loss);
  };
  const auto [large, loss_on_device] = peak("80000000000");
  const auto [small, loss_in_memory] = peak("1000000000");
  const int64_t element = computes_in_bfloat16(/*on_gpu=*/false) ? 2 : 4;
  const int64_t states = 3 * 16 * 256 * p.architecture.hidden_size() * element;  // before, between and after the blocks
  EXPECT_GT(large, states);
  EXPECT_LT(small, large - states / 2);
  EXPECT_EQ(loss_in_memory, loss_on_device);
  ::unsetenv("FAKE_CUDA_MEMORY");
  ::unsetenv("XDG_CACHE_HOME");
}

// The device's memory ends at one allocation or another of a run.
TEST_F(OnADevice, WithoutMemoryARunEndsWithWhatToChangeAndGivesAllBack) {
  Problem p = problem(kUntied, "scheme: W4A16\ntuning: {iters: 2}\n");
  const int64_t before = pretend::allocations();
  const Recording expected = p.quantized(kDevice);
  const int64_t in_all = pretend::allocations() - before;
  const bool every_one = std::getenv("EVERY_ALLOCATION");  // minutes
  for (int64_t n = 1; n <= in_all; n += every_one ? 1 : 1 + in_all / 16) {
    SCOPED_TRACE("allocation " + std::to_string(n) + " of " + std::to_string(in_all));
    pretend::fail_allocation(n);
    try {
      p.quantized(kDevice);
      ADD_FAILURE() << "no error";
    } catch (const Error& e) {
      const std::string text = e.what();
      for (const char* part :
           {": pretend device out of memory. Tried to allocate ", "seqlen", "memory", "another device"})
        EXPECT_NE(text.find(part), std::string::npos) << text;
      EXPECT_EQ(text.find("nothing is known"), std::string::npos) << text;
    }
    // libtorch's thread for the gradients may still have some in hand.
    for (int i = 0; i < 1000 && pretend::live_bytes() > 0; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    EXPECT_EQ(pretend::live_bytes(), 0);
  }
  pretend::fail_allocation(0);
  expect_same(expected, p.quantized(kDevice));
}

TEST_F(OnADevice, LayersAreRoundedToTheBitsOfTheCpu) {
  Problem p = problem(kUntied, "scheme: NVFP4\ntuning: {iters: 0}\n");
  const auto rounded = [&](const std::string& device) {
    Recording sink;
    round_layers({p.plan, p.architecture, p.source, nullptr, p.catalogue, {}, std::nullopt, device}, sink);
    return sink;
  };
  expect_same(rounded("cpu"), rounded(kDevice));
}

// Does something of its own with each layer.
struct LayerByLayer : Recording {
  std::function<void(const std::string& name)> each;
  std::atomic<int64_t> iterations = 0;  // of the second block

  void layer(const EncodedLayer& layer) override {
    each(layer.plan.info.name);
    Recording::layer(layer);
  }
  void iteration(int64_t block, int64_t, double) override { iterations += block == 1; }
};

TEST_F(OnADevice, LayersArePackedWhileTheNextBlockIsTuned) {
  Problem p = problem(kUntied, "scheme: W4A16\ntuning: {iters: 3}\n");
  const Recording expected = p.quantized();
  LayerByLayer sink;
  sink.each = [&](const std::string&) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    while (sink.iterations == 0 && std::chrono::steady_clock::now() < end) std::this_thread::yield();
    EXPECT_GT(sink.iterations, 0) << "the first block's layers were waited for";
  };
  quantize({p.plan, p.architecture, p.source, nullptr, p.catalogue, p.samples, std::nullopt, kDevice}, sink);
  EXPECT_EQ(sink.names, expected.names);
  expect_same(expected, sink, kLossError);
}

TEST_F(OnADevice, WhatPackingFailsOfEndsTheRun) {
  Problem p = problem(kUntied, "scheme: W4A16\ntuning: {iters: 3}\n");
  for (const std::string& at : {"model.layers.0.mlp.up_proj"s, "model.layers.1.mlp.up_proj"s}) {
    LayerByLayer sink;
    sink.each = [&](const std::string& name) {
      if (name == at) throw Error("no room for " + name);
    };
    try {
      quantize({p.plan, p.architecture, p.source, nullptr, p.catalogue, p.samples, std::nullopt, kDevice}, sink);
      ADD_FAILURE();
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find("no room for " + at), std::string::npos) << e.what();
    }
    EXPECT_EQ(pretend::live_bytes(), 0);
  }
}

// By name: the files with weights.
std::map<std::string, std::string> weights_in(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& file : fs::directory_iterator(folder))
    if (file.path().extension() == ".safetensors") files[file.path().filename()] = read_file(file.path());
  return files;
}

TEST_F(OnADevice, ExportsAndRecordsAreThoseOfTheCpu) {
  ::setenv("ROUNDHOUSE_JOURNAL_SECONDS", "0", 1);  // a record after each block
  Problem p = problem(kUntied, "scheme: W4A16\ntuning: {iters: 3}\n");
  std::map<std::string, std::map<std::string, std::string>> written;
  for (const std::string& device : {"cpu"s, kDevice}) {
    p.plan.recipe.output = folder_.path() / device;
    OutputFolder output(p.plan.recipe.output, /*overwrite=*/false);
    Journal journal(output.partial() / kJournalFolder, nlohmann::json::object());
    Exporter exporter(p.catalogue, p.plan, p.architecture, kUntied, output);
    exporter.start_saving();
    RunSink sink(exporter, p.plan, output, journal, nullptr);
    quantize({p.plan, p.architecture, p.source, nullptr, p.catalogue, p.samples, std::nullopt, device}, sink);
    sink.settle();
    const std::vector<int64_t> records = journal.records();
    ASSERT_FALSE(records.empty());
    EXPECT_EQ(journal.open(records.front()).state().at("done_steps"), 2);
    exporter.finish();
    written[device] = weights_in(p.plan.recipe.output);
  }
  ::unsetenv("ROUNDHOUSE_JOURNAL_SECONDS");
  ASSERT_FALSE(written["cpu"].empty());
  EXPECT_EQ(written["cpu"], written[kDevice]);
}

using Sequences = std::vector<std::vector<int32_t>>;

struct Evaluated {
  double perplexity;
  std::map<std::pair<size_t, int64_t>, std::vector<float>> log_p;  // by sequence and first token
};
Evaluated evaluate(Problem& p, TensorSource& source, const Sequences& sequences, const InputHook& hook,
                   const std::string& device) {
  Evaluated result;
  const auto keep = [&](size_t sequence, int64_t first, int64_t rows, const float* log_p) {
    result.log_p[{sequence, first}].assign(log_p, log_p + rows * p.architecture.vocab_size());
  };
  result.perplexity = perplexity(p.architecture, source, sequences, {}, hook, keep, device).value;
  return result;
}

TEST_F(OnADevice, EvaluationGivesTheBitsOfTheCpu) {
  for (const std::string& recipe : {"scheme: W4A16\ntuning: {iters: 0}\n"s, "scheme: NVFP4\ntuning: {iters: 0}\n"s,
                                    "scheme: {data_type: weighted}\ntuning: {iters: 0, search: true}\n"s}) {
    SCOPED_TRACE(recipe);
    Problem p = problem(kUntied, recipe);
    Sequences sequences = p.samples;
    sequences[1].resize(9);
    sequences[2].resize(1);
    sequences[3].clear();
    const Observations seen = p.plan.rounds_only ? Observations() : p.quantized().seen;
    const auto measured = [&](const std::string& device) {
      const auto rounded = rounded_source(p.plan, p.source, p.catalogue, seen.importance, device);
      return evaluate(p, *rounded, sequences, activation_hook(p.plan.layers, p.catalogue, seen.ranges, device), device);
    };
    const Evaluated expected = measured("cpu"), got = measured(kDevice);
    EXPECT_EQ(got.perplexity, expected.perplexity);
    EXPECT_EQ(got.log_p, expected.log_p);
    EXPECT_GT(got.perplexity, 1);
    const auto logits_on = [&](const std::string& device) {
      return logits(p.architecture, p.source, p.samples[0], {}, device);
    };
    expect_same({logits_on("cpu")}, {logits_on(kDevice)});
    EXPECT_EQ(pretend::live_bytes(), 0);
  }
}

// What a sequence is waited for does not depend on its length.
TEST_F(OnADevice, EvaluationDoesNotWaitForTokens) {
  Problem p = problem(kUntied, "scheme: W4A16\n");
  const auto waits = [&](size_t seqlen) {
    p.draw_samples(8, seqlen);
    pretend::take_waits();
    evaluate(p, p.source, p.samples, {}, kDevice);
    std::map<std::string, int64_t> count;
    for (const pretend::Wait& wait : pretend::take_waits()) ++count[wait.what];
    return count;
  };
  const auto expected = waits(8);
  EXPECT_EQ(waits(16), expected);
  EXPECT_EQ(expected.count("a copy to the host"), 0u);
  EXPECT_EQ(expected.count("a scalar"), 0u);
}

// The window's mask, and heads that share keys.
TEST_F(OnADevice, MaskedAttentionGivesTheBitsOfTheCpu) {
  const fs::path model = changed(kUntied, [](auto&) {});
  nlohmann::json config = nlohmann::json::parse(std::ifstream(model / "config.json"));
  config["model_type"] = "mistral";
  config["architectures"] = {"MistralForCausalLM"};
  config["sliding_window"] = 5;
  std::ofstream(model / "config.json") << config;
  Problem p = problem(model, "scheme: W4A16\ntuning: {iters: 2}\n");
  expect_same(p.quantized(), p.quantized(kDevice), kLossError);
}

// A run's operators are those that give the same bits each time.
TEST_F(OnADevice, RecurrentScansAreDeterministic) {
  at::Generator random = at::detail::createCPUGenerator(1);
  const auto values = [&](at::IntArrayRef shape) { return at::rand(shape, random); };
  const at::Tensor q = values({2, 3, 1, 70, 8}), k = values({2, 3, 1, 70, 8}), v = values({2, 3, 1, 70, 6});
  const at::Tensor g = -values({2, 3, 1, 70}), beta = values({2, 3, 1, 70});
  const auto scan = [&](at::Device device) {
    const OnRunDevice on_device(device);
    const at::Tensor x = q.detach().to(device).requires_grad_();
    const at::Tensor y = gated_scan(x, k.to(device), v.to(device), g.to(device), beta.to(device));
    y.sum().backward();
    return std::vector<at::Tensor>{y.detach().cpu(), x.grad().cpu()};
  };
  const std::vector<at::Tensor> expected = scan(at::kCPU), got = scan(kDevice);
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_TRUE(at::equal(got[i], expected[i])) << i;
  const OnRunDevice on_device(kDevice);
  EXPECT_THROW(g.to(kDevice).cumsum(-1), c10::Error);
}

TEST_F(OnADevice, TensorsOnTwoDevicesAreAnError) {
  const at::Tensor here = at::ones({2, 2}), there = here.to(kDevice);
  EXPECT_THROW(here + there, c10::Error);
  EXPECT_THROW(there.index_select(0, at::zeros({1}, at::kLong)), c10::Error);
  EXPECT_THROW(there + here.to("pretend:0"), c10::Error);
  EXPECT_TRUE(at::equal((there + at::scalar_tensor(1)).cpu(), here + 1)) << "a number may come from anywhere";
}

}  // namespace
}  // namespace roundhouse
