// SPDX-License-Identifier: Apache-2.0
// Quantizing small models in the process, with the fixture plugins of this folder.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <random>

#include "host/base/parallel.h"
#include "host/checkpoint/safetensors.h"
#include "host/checkpoint/writer.h"
#include "host/plan/planner.h"
#include "host/tuning/quantize.h"
#include "tests/temp_folder.h"

namespace roundhouse {

namespace fs = std::filesystem;

inline const fs::path kModels = fs::path(TEST_DATA) / "models";
inline const fs::path kUntied = kModels / "tiny-llama", kTied = kModels / "stories260K";

struct Recording : QuantizeSink {
  struct Layer {
    LinearInfo info;
    std::vector<Tensor> tensors, activation_tensors;
  };
  std::map<std::string, Layer> layers;
  std::vector<std::string> names;  // of all that came
  std::vector<BlockReport> blocks;
  Observations seen;

  void layer(const EncodedLayer& layer) override {
    names.push_back(layer.plan.info.name + ".weight");
    if (layer.bias.elements() > 0) names.push_back(layer.plan.info.name + ".bias");
    layers[layer.plan.info.name] = {layer.plan.info, layer.tensors, layer.activation_tensors};
  }
  void tensor(const std::string& name, const Tensor&) override { names.push_back(name); }
  void iteration(int64_t, int64_t, double) override {}
  void block_done(const BlockReport& report) override { blocks.push_back(report); }
};

inline void expect_same(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    ASSERT_EQ(a[i].bytes(), b[i].bytes());
    EXPECT_EQ(std::memcmp(a[i].data(), b[i].data(), a[i].bytes()), 0);
  }
}

// loss_error: by which fraction losses may differ where they are summed in another order.
inline void expect_same(const Recording& a, const Recording& b, double loss_error = 0) {
  ASSERT_EQ(a.layers.size(), b.layers.size());
  for (const auto& [name, layer] : a.layers) {
    SCOPED_TRACE(name);
    expect_same(layer.tensors, b.layers.at(name).tensors);
    expect_same(layer.activation_tensors, b.layers.at(name).activation_tensors);
  }
  ASSERT_EQ(a.blocks.size(), b.blocks.size());
  for (size_t i = 0; i < a.blocks.size(); ++i) {
    EXPECT_NEAR(a.blocks[i].first_loss, b.blocks[i].first_loss, loss_error * a.blocks[i].first_loss);
    EXPECT_NEAR(a.blocks[i].best_loss, b.blocks[i].best_loss, loss_error * a.blocks[i].best_loss);
  }
}

// A model, and a recipe for it.
struct Problem {
  Problem(const fs::path& model, const fs::path& recipe_file)
      : recipe(load_recipe(recipe_file, {}, {configs() / "schemes"})),
        architecture(Architecture::load(model, {configs() / "architectures"})),
        source(model),
        catalogue(discover()),
        plan(make_plan(recipe, architecture, source, catalogue)) {
    draw_samples(8, 16);
  }
  void draw_samples(size_t count, size_t seqlen) {
    samples.assign(count, std::vector<int32_t>(seqlen));
    std::mt19937 random(1);
    for (auto& sample : samples)
      for (int32_t& id : sample) id = static_cast<int32_t>(random() % static_cast<uint32_t>(architecture.vocab_size()));
  }
  Recording quantized(const std::string& device = "cpu") {
    Recording sink;
    sink.seen = quantize({plan, architecture, source, nullptr, catalogue, samples, std::nullopt, device}, sink);
    return sink;
  }

  static fs::path configs() { return fs::path(ROUNDHOUSE_SOURCE) / "configs"; }
  // Once a process: a scan starts a process for each plugin.
  static Catalogue& discover() {
    static Catalogue catalogue = [] {
      DiscoveryOptions options;
      options.directories = {ROUNDHOUSE_BUILD "/lib/roundhouse/plugins", FIXTURES};
      options.use_cache = false;
      return Catalogue::discover(options);
    }();
    return catalogue;
  }

  Recipe recipe;
  Architecture architecture;
  SafetensorsFolder source;
  Catalogue& catalogue;
  Plan plan;
  std::vector<std::vector<int32_t>> samples;
};

class QuantizeTest : public testing::Test {
 protected:
  // `more` is YAML: formats are fake's, calibration is 8 random samples of 16 tokens.
  Problem problem(const fs::path& model, const std::string& more) { return Problem(model, recipe_file(model, more)); }
  Recipe recipe(const fs::path& model, const std::string& more) {
    return load_recipe(recipe_file(model, more), {}, {Problem::configs() / "schemes"});
  }
  Recording quantize_model(const fs::path& model, const std::string& more) { return problem(model, more).quantized(); }

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

 private:
  fs::path recipe_file(const fs::path& model, const std::string& more) {
    const fs::path file = folder_.path() / "recipe.yaml";
    std::ofstream(file) << "version: 1\nmodel: " << model.string() << "\noutput: out\nformats: [fake]\n"
                        << "calibration: {data: recipe.yaml, samples: 8, seqlen: 16, batch_size: 4}\n"
                        << more;
    return file;
  }
};

}  // namespace roundhouse
