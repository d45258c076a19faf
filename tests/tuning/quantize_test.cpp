// SPDX-License-Identifier: Apache-2.0
// What a run hands to its formats: every tensor of the source once, as itself or as a layer.
#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "host/base/cpu.h"
#include "host/base/error.h"
#include "host/tuning/caching_allocator.h"
#include "host/tuning/rounded_source.h"
#include "kernels/floats.h"
#include "tests/tuning/quantize_fixture.h"

namespace roundhouse {
namespace {

using namespace std::string_literals;
using Quantize = QuantizeTest;

std::vector<std::string> sorted(std::vector<std::string> names) {
  std::sort(names.begin(), names.end());
  return names;
}

TEST_F(Quantize, EveryTensorOfTheSourceComesOnce) {
  // One that the architecture does not know, inside a block and outside.
  const fs::path model = changed(kUntied, [](auto& tensors) {
    tensors["model.layers.0.self_attn.extra"] = Tensor(DType::kI32, {3});
    tensors["mtp.weight"] = Tensor(DType::kF32, {2, 2});
  });
  for (const char* iters : {"0", "1"}) {
    const Recording got = quantize_model(model, "scheme: W4A16\ntuning: {iters: " + std::string(iters) + "}\n");
    EXPECT_EQ(sorted(got.names), sorted(SafetensorsFolder(model).names())) << iters << " iterations";
    EXPECT_EQ(got.layers.size(), 14u) << "seven linear layers in each of two blocks";
  }
}

TEST_F(Quantize, SignRound2StartsFromScalesThatWereSearchedWithImportance) {
  const std::string more = "scheme: W2A16G32\ntuning: {iters: 20, algorithm: signround";
  const Recording plain = quantize_model(kUntied, more + "}\n"), searched = quantize_model(kUntied, more + "2}\n");
  // The loss leaves out what is worst: it cannot be compared with the other's.
  EXPECT_LT(*searched.blocks[0].error_alone, 0.95 * *plain.blocks[0].error_alone);
  for (const BlockReport& block : searched.blocks) EXPECT_LT(block.best_loss, block.first_loss);
  EXPECT_EQ(plain.seen.importance.size(), 0u);
  EXPECT_EQ(searched.seen.importance.size(), 14u);
  set_threads(3);
  expect_same(searched, quantize_model(kUntied, more + "2}\n"));
  set_threads(0);
}

TEST_F(Quantize, AnUntiedHeadIsQuantizedWhenARuleNamesIt) {
  const Recording got = quantize_model(kUntied, "scheme: W4A16\ntuning: {iters: 1}\nlayers: [{match: lm_head}]\n");
  EXPECT_EQ(got.layers.count("lm_head"), 1u);
  EXPECT_EQ(sorted(got.names), sorted(SafetensorsFolder(kUntied).names()));
}

TEST_F(Quantize, ATiedHeadStoredAloneComesAsTheEmbedding) {
  const fs::path model = changed(kTied, [](auto& tensors) {
    tensors["lm_head.weight"] = tensors.at("model.embed_tokens.weight");
    tensors.erase("model.embed_tokens.weight");
  });
  const Recording got = quantize_model(model, "scheme: {data_type: int, group_size: -1}\ntuning: {iters: 1}\n");
  EXPECT_EQ(sorted(got.names), sorted(SafetensorsFolder(kTied).names()));
}

TEST_F(Quantize, ABlockLeftAloneAmongTunedOnes) {
  const Recording got = quantize_model(
      kUntied,
      "scheme: W4A16\ntuning: {iters: 2}\nlayers: [{match: \"re:model\\\\.layers\\\\.0\\\\..*\", scheme: none}]\n");
  EXPECT_EQ(got.layers.size(), 7u);
  ASSERT_EQ(got.blocks.size(), 2u);
  EXPECT_EQ(got.blocks[0].first_loss, 0) << "not tuned";
  EXPECT_GT(got.blocks[1].first_loss, 0);
}

// Chains, targets, calibrated ranges and an importance matrix, with everything in memory and with some of it on disk.
TEST_F(Quantize, SpilledActivationsGiveTheSameBits) {
  const std::string ranges = ", act_data_type: grid, act_bits: 8, act_group_size: 0, act_dynamic: false}\n";
  for (const std::string& recipe :
       {"scheme: W4A16\ntuning: {iters: 3}\n"s, "scheme: W4A16\ntuning: {iters: 3, quantized_input: false}\n"s,
        "scheme: {data_type: int, group_size: 32" + ranges + "tuning: {iters: 3}\nlayers: [{match: lm_head}]\n",
        "scheme: {data_type: weighted}\ntuning: {iters: 0, search: true}\n"s}) {
    const Recording resident = quantize_model(kUntied, recipe);
    EXPECT_EQ(resident.seen.spill.bytes, 0);
    for (int threads : {1, 2}) {
      for (const char* memory : {"1", "50KiB"}) {
        set_threads(threads);
        const Recording spilled = quantize_model(kUntied, recipe + "memory: " + memory + "\n");
        set_threads(0);
        EXPECT_GT(spilled.seen.spill.bytes, 0);
        EXPECT_GT(spilled.seen.spill.read, 0);
        expect_same(resident, spilled);
      }
    }
  }
}

// libtorch's memory on the CPU, but that tensors of one size find none.
class NoRoomFor : public c10::Allocator {
 public:
  explicit NoRoomFor(size_t bytes) : bytes_(bytes) {
    { const KeepFreedTensors first; }  // puts its allocator in place, once a process
    others_ = c10::GetCPUAllocator();
    c10::SetCPUAllocator(this, kPriority);
  }
  ~NoRoomFor() override { c10::SetCPUAllocator(others_, kPriority); }
  c10::DataPtr allocate(size_t bytes) override {
    if (bytes == bytes_) ++refused;
    TORCH_CHECK_WITH(OutOfMemoryError, bytes != bytes_, "no memory for ", bytes, " bytes");
    return others_->allocate(bytes);
  }
  c10::DeleterFnPtr raw_deleter() const override { return others_->raw_deleter(); }
  void copy_data(void* to, const void* from, size_t bytes) const override { others_->copy_data(to, from, bytes); }

  int refused = 0;

 private:
  static constexpr uint8_t kPriority = 2;
  size_t bytes_;
  c10::Allocator* others_;
};

// Chains, gradients, calibrated ranges and an importance matrix. The memory of a unit of two samples is all they need.
TEST_F(Quantize, HoweverSamplesAreWrittenAsBatchesTheBitsAreTheSame) {
  const size_t element = computes_in_bfloat16(false) ? 2 : 4;
  const std::string ranges = ", act_data_type: grid, act_bits: 8, act_group_size: 0, act_dynamic: false}\n";
  for (const std::string& recipe :
       {"scheme: W4A16\ntuning: {iters: 2}\n"s,
        "scheme: {data_type: int, group_size: 32" + ranges + "tuning: {iters: 2}\nlayers: [{match: lm_head}]\n",
        "scheme: {data_type: weighted}\ntuning: {iters: 0, search: true}\n"s}) {
    const auto quantized = [&](int64_t batch_size, int64_t accumulation) {
      Problem p = problem(kUntied, recipe);
      p.draw_samples(5, 600);
      p.plan.recipe.calibration.batch_size = batch_size;
      p.plan.recipe.tuning.gradient_accumulation = accumulation;
      return p.quantized();
    };
    const Recording expected = quantized(1, 5);
    NoRoomFor gate(5 * 600 * 512 * element);
    const Recording got = quantized(5, 1);
    EXPECT_EQ(gate.refused, 0) << "nobody asked for the memory of all five samples";
    expect_same(expected, got);
    ASSERT_EQ(expected.seen.importance.size(), got.seen.importance.size());
    for (const auto& [name, squares] : expected.seen.importance)
      expect_same({squares.sums}, {got.seen.importance.at(name).sums});
  }
}

TEST_F(Quantize, AUnitThatDoesNotFitIsAnErrorThatSaysWhatToChange) {
  const size_t element = computes_in_bfloat16(false) ? 2 : 4;
  Problem p = problem(kUntied, "scheme: W4A16\ntuning: {iters: 3}\n");
  p.draw_samples(5, 600);
  NoRoomFor gate(2 * 600 * 512 * element);
  try {
    p.quantized();
    FAIL() << "no error";
  } catch (const Error& e) {
    const std::string text = e.what();
    for (const char* part : {"block 0: no memory", "seqlen", "memory", "device"})
      EXPECT_NE(text.find(part), std::string::npos) << text;
  }
}

// How often each tensor of another source was loaded.
class Counting : public TensorSource {
 public:
  explicit Counting(TensorSource& source) : source_(source) {}
  std::vector<std::string> names() const override { return source_.names(); }
  bool contains(const std::string& name) const override { return source_.contains(name); }
  std::string location() const override { return source_.location(); }
  Tensor load(const std::string& name) override {
    ++loads[name];
    return source_.load(name);
  }
  std::map<std::string, int> loads;

 private:
  TensorSource& source_;
};

TEST_F(Quantize, EachTensorIsLoadedOnce) {
  for (const std::string& recipe :
       {"scheme: W4A16\ntuning: {iters: 2}\n"s, "scheme: W4A16\ntuning: {iters: 0}\nlayers: [{match: lm_head}]\n"s,
        "scheme: {data_type: largest}\ntuning: {iters: 1}\n"s}) {
    Problem p = problem(kUntied, recipe);
    Counting source(p.source);
    Recording sink;
    quantize({p.plan, p.architecture, source, nullptr, p.catalogue, p.samples, std::nullopt}, sink);
    const std::vector<std::string> outside = p.architecture.outer_tensors();
    EXPECT_EQ(source.loads.size(), p.source.names().size());
    for (const auto& [name, loads] : source.loads)
      EXPECT_LE(loads, std::count(outside.begin(), outside.end(), name) ? 2 : 1)
          << name << ": for its block, or for the chains and then the export";
  }
}

TEST_F(Quantize, SiblingsRoundedTogetherAreLoadedOnce) {
  Problem p = problem(kUntied, "scheme: {data_type: largest}\ntuning: {iters: 0}\n");
  Counting source(p.source);
  const auto rounded = rounded_source(p.plan, source, p.catalogue, {}, "cpu");
  for (const std::string& name : p.architecture.block_tensors(0)) rounded->load(name);
  EXPECT_EQ(source.loads.size(), p.architecture.block_tensors(0).size());
  for (const auto& [name, loads] : source.loads) EXPECT_EQ(loads, 1) << name;
}

TEST_F(Quantize, SiblingsShareTheirStatistic) {
  const Recording got = quantize_model(kUntied, "scheme: {data_type: largest}\ntuning: {iters: 0}\n");
  SafetensorsFolder source(kUntied);
  const auto largest = [&](const std::string& name) {
    const Tensor weight = source.load(name + ".weight");
    const auto type = weight.dtype() == DType::kF32   ? kernels::Element::kF32
                      : weight.dtype() == DType::kF16 ? kernels::Element::kF16
                                                      : kernels::Element::kBF16;
    float value = 0;
    for (int64_t i = 0; i < weight.elements(); ++i)
      value = std::max(value, std::fabs(kernels::load_element(type, weight.data(), i)));
    return value;
  };
  const std::vector<std::vector<std::string>> groups = {{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"},
                                                        {"self_attn.o_proj"},
                                                        {"mlp.gate_proj", "mlp.up_proj"},
                                                        {"mlp.down_proj"}};
  std::set<float> different;
  for (const char* block : {"model.layers.0.", "model.layers.1."}) {
    for (const auto& group : groups) {
      float expected = 0;
      for (const std::string& name : group) expected = std::max(expected, largest(block + name));
      different.insert(expected);
      for (const std::string& name : group)
        EXPECT_EQ(got.layers.at(block + name).tensors.at(0).as<float>()[0], expected) << block << name;
    }
  }
  EXPECT_EQ(different.size(), 8u) << "groups with the same maximum show nothing";
}

// Who makes an encoding orders its tensors as it likes.
TEST_F(Quantize, TensorsOfAnEncodingAreFoundByName) {
  Problem p = problem(kUntied, "scheme: {data_type: int, bits: 4, group_size: 32, sym: false}\ntuning: {iters: 0}\n");
  const LayerPlan& layer = p.plan.layers.front();
  const LoadedDtype& dtype = p.catalogue.dtype("int");
  const QuantizerTarget target{layer.info.name, "", layer.info.out_features, layer.info.in_features, DType::kF32};
  const std::vector<Tensor> tensors = p.quantized().layers.at(layer.info.name).tensors;
  const auto decoded = [&](bool reversed) {
    rh_encoding encoding = layer.encoding->get();
    std::vector<const rh_tensor_spec*> specs(encoding.tensors, encoding.tensors + encoding.tensor_count);
    if (reversed) std::reverse(specs.begin(), specs.end());
    encoding.tensors = specs.data();
    const TensorSet given(encoding.tensors, encoding.tensor_count);
    for (size_t i = 0; i < given.size(); ++i) {
      const Tensor& from = tensors[reversed ? given.size() - 1 - i : i];
      std::memcpy(given[i].data(), from.data(), from.bytes());
    }
    Quantizer quantizer(dtype, encoding, target);
    std::vector<const rh_tensor*> declared;
    for (const size_t i : quantizer.order_of(given)) declared.push_back(given.data()[i]);
    Tensor weight(DType::kF32, {target.rows, target.cols});
    rh_tensor view = weight.view();
    quantizer.decode({}, declared.data(), view);
    return std::vector<float>(weight.as<float>(), weight.as<float>() + weight.elements());
  };
  EXPECT_EQ(tensors.size(), 3u);
  EXPECT_EQ(decoded(true), decoded(false));
}

}  // namespace
}  // namespace roundhouse
