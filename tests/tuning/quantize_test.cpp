// What a run hands to its formats: every tensor of the source once, as itself or as a layer.
#include "host/tuning/quantize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <map>
#include <random>
#include <set>

#include "host/base/error.h"
#include "host/checkpoint/safetensors.h"
#include "host/checkpoint/writer.h"
#include "kernels/floats.h"
#include "tests/temp_folder.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;

const fs::path kModels = fs::path(TEST_DATA) / "models";
const fs::path kUntied = kModels / "tiny-llama", kTied = kModels / "stories260K";

struct Recording : QuantizeSink {
  struct Layer {
    LinearInfo info;
    std::vector<Tensor> tensors;
  };
  std::map<std::string, Layer> layers;
  std::vector<std::string> names;  // of all that came
  std::vector<BlockReport> blocks;

  void layer(const EncodedLayer& layer) override {
    names.push_back(layer.plan.info.name + ".weight");
    if (layer.bias.elements() > 0) names.push_back(layer.plan.info.name + ".bias");
    layers[layer.plan.info.name] = {layer.plan.info, layer.tensors};
  }
  void tensor(const std::string& name, const Tensor&) override { names.push_back(name); }
  void iteration(int64_t, int64_t, double) override {}
  void block_done(const BlockReport& report) override { blocks.push_back(report); }
};

class Quantize : public testing::Test {
 protected:
  // `more` is YAML: formats are fake's, calibration is 8 random samples of 16 tokens.
  Recording quantize_model(const fs::path& model, const std::string& more) {
    std::ofstream(folder_.path() / "recipe.yaml")
        << "version: 1\nmodel: " << model.string() << "\noutput: out\nformats: [fake]\n"
        << "calibration: {data: recipe.yaml, samples: 8, seqlen: 16, batch_size: 4}\n"
        << more;
    DiscoveryOptions options;
    options.directories = {ROUNDHOUSE_BUILD "/lib/roundhouse/plugins", FIXTURES};
    options.use_cache = false;
    Catalogue catalogue = Catalogue::discover(options);
    const fs::path configs = fs::path(ROUNDHOUSE_SOURCE) / "configs";
    const Recipe recipe = load_recipe(folder_.path() / "recipe.yaml", {}, {configs / "schemes"});
    const Architecture architecture = Architecture::load(model, {configs / "architectures"});
    SafetensorsFolder source(model);
    const Plan plan = make_plan(recipe, architecture, source, catalogue);
    std::mt19937 random(1);
    std::vector<std::vector<int32_t>> samples(8, std::vector<int32_t>(16));
    for (auto& sample : samples)
      for (int32_t& id : sample) id = static_cast<int32_t>(random() % static_cast<uint32_t>(architecture.vocab_size()));
    Recording sink;
    quantize({plan, architecture, source, catalogue, samples, std::nullopt}, sink);
    return sink;
  }

  // A copy of a model with other tensors.
  fs::path changed(const fs::path& model, const std::function<void(std::map<std::string, Tensor>&)>& change) {
    const fs::path copy = folder_.path() / "model";
    fs::create_directory(copy);
    fs::copy_file(model / "config.json", copy / "config.json");
    SafetensorsFolder source(model);
    std::map<std::string, Tensor> tensors;
    for (const std::string& name : source.names()) tensors[name] = source.load(name);
    change(tensors);
    write_safetensors_file(copy / "model.safetensors", {tensors.begin(), tensors.end()});
    return copy;
  }

  TempFolder folder_;
};

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

}  // namespace
}  // namespace roundhouse
