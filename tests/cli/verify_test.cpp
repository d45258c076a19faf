// SPDX-License-Identifier: Apache-2.0
// What a run exported reads back as what it made, and damage is found.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>

#include "host/checkpoint/safetensors.h"
#include "host/checkpoint/writer.h"
#include "tests/cli/program.h"

namespace roundhouse {
namespace {

class Verify : public WorkFolder {
 protected:
  void export_model(const std::string& more = "") {
    const Outcome outcome = run("run " + write_recipe(more).string());
    ASSERT_EQ(outcome.code, 0) << outcome.output;
  }
  // Rewrites the exported model.safetensors after `change` was called for each tensor; false drops one.
  template <typename Change>
  void damage(Change&& change) {
    std::vector<std::pair<std::string, Tensor>> tensors;
    {
      SafetensorsFolder exported(work_ / "out");
      for (const std::string& name : exported.names()) {
        const Tensor mapped = exported.load(name);
        Tensor copy(mapped.dtype(), mapped.shape());
        std::memcpy(copy.data(), mapped.data(), mapped.bytes());
        if (change(name, copy)) tensors.emplace_back(name, copy);
      }
    }
    std::filesystem::remove(work_ / "out/model.safetensors");
    write_safetensors_file(work_ / "out/model.safetensors", tensors);
  }
  Outcome verify() { return run("verify " + (work_ / "out").string()); }
};

TEST_F(Verify, EveryTensorOfAGoodExportAgrees) {
  export_model("formats: [auto_round, fake]\n");
  for (const char* format : {"auto_round", "fake"}) {
    const Outcome outcome = run("verify --json " + (work_ / "out" / format).string());
    ASSERT_EQ(outcome.code, 0) << outcome.output;
    const auto result = nlohmann::json::parse(outcome.output);
    EXPECT_EQ(result["format"], format);
    EXPECT_EQ(result["tensors"], result["compared"]);
    EXPECT_LT(result["largest_difference"].get<double>(), 1e-6);
  }
}

TEST_F(Verify, OriginalsAreCheckedToo) {
  const Outcome outcome = run("verify " + kExamples + "/tinystories-656k");
  EXPECT_EQ(outcome.code, 0) << outcome.output;
}

TEST_F(Verify, FindsWrongCodes) {
  export_model("formats: [auto_round]\n");
  damage([](const std::string& name, Tensor& tensor) {
    if (name == "model.layers.1.mlp.up_proj.qzeros")
      for (int64_t i = 0; i < tensor.elements(); ++i) tensor.as<uint32_t>()[i] ^= 0x11111111;  // off by one
    return true;
  });
  const Outcome outcome = verify();
  EXPECT_EQ(outcome.code, 1);
  EXPECT_NE(outcome.output.find("model.layers.1.mlp.up_proj.weight differs"), std::string::npos) << outcome.output;
}

TEST_F(Verify, FindsNan) {
  export_model();
  damage([](const std::string& name, Tensor& tensor) {
    if (name == "model.norm.weight") std::memset(tensor.data(), 0xff, size_of(tensor.dtype()));
    return true;
  });
  const Outcome outcome = verify();
  EXPECT_EQ(outcome.code, 1);
  EXPECT_NE(outcome.output.find("model.norm.weight holds NaN"), std::string::npos) << outcome.output;
}

TEST_F(Verify, AConstantWeightIsNotedWhereNoFingerprintTellsOfIt) {
  export_model();
  damage([](const std::string& name, Tensor& tensor) {
    if (name == "model.layers.0.self_attn.k_proj.weight") std::memset(tensor.data(), 0, tensor.bytes());
    return true;
  });
  Outcome outcome = verify();
  EXPECT_EQ(outcome.code, 1);
  EXPECT_NE(outcome.output.find("k_proj.weight differs from what the run made"), std::string::npos) << outcome.output;
  std::filesystem::remove_all(work_ / "out/roundhouse");
  outcome = verify();
  EXPECT_EQ(outcome.code, 0);
  EXPECT_NE(outcome.output.find("note: model.layers.0.self_attn.k_proj.weight is one constant, and there is no "
                                "fingerprint that says whether it was so before\n"),
            std::string::npos)
      << outcome.output;
}

// A copy of the example model, its tensors changed, as recipe "model".
class VerifySource : public Verify {
 protected:
  void change_source(const std::function<void(std::vector<std::pair<std::string, Tensor>>&)>& change) {
    const auto folder = copy_model();
    std::vector<std::pair<std::string, Tensor>> tensors;
    {
      SafetensorsFolder model(folder);
      for (const std::string& name : model.names()) {
        const Tensor mapped = model.load(name);
        Tensor copy(mapped.dtype(), mapped.shape());
        std::memcpy(copy.data(), mapped.data(), mapped.bytes());
        tensors.emplace_back(name, copy);
      }
    }
    change(tensors);
    std::filesystem::remove(folder / "model.safetensors");
    write_safetensors_file(folder / "model.safetensors", tensors);
  }
  void expect_verified(const std::string& format, const std::string& scheme) {
    write("recipe.yaml",
          "version: 1\nmodel: model\noutput: out\nscheme: " + scheme + "\ntuning: {iters: 0}\ncalibration: {data: " +
              kExamples + "/texts/tinystories-calibration.jsonl, samples: 2, seqlen: 32}\nformats: [" + format + "]\n");
    const Outcome made = run("run --overwrite " + (work_ / "recipe.yaml").string());
    EXPECT_EQ(made.code, 0) << format << ": " << made.output;
    const Outcome outcome = verify();
    EXPECT_EQ(outcome.code, 0) << format << ": " << outcome.output;
  }
};

TEST_F(VerifySource, AnAllZeroProjectionIsRight) {
  change_source([](auto& tensors) {
    for (auto& [name, tensor] : tensors)
      if (name == "model.layers.0.mlp.down_proj.weight") std::memset(tensor.data(), 0, tensor.bytes());
  });
  for (const auto& [format, scheme] : {std::pair{"auto_round", "W4A16"},
                                       {"auto_gptq", "W4A16"},
                                       {"auto_awq", "W4A16"},
                                       {"llm_compressor", "NVFP4"},
                                       {"fp8", "FP8_BLOCK"},
                                       {"fake", "W4A16"},
                                       {"gguf", "GGUF:Q8_0"}})
    expect_verified(format, scheme);
}

TEST_F(VerifySource, WhatAFormatLeavesOutIsNotLost) {
  change_source([](auto& tensors) {
    Tensor frequencies(DType::kF32, {16});
    std::fill_n(frequencies.template as<float>(), 16, 1.0f);
    tensors.emplace_back("model.layers.0.self_attn.rotary_emb.inv_freq", frequencies);
  });
  expect_verified("gguf", "GGUF:Q8_0");
}

TEST_F(VerifySource, NanIsToldBeforeTheWorkAndAsTheSources) {
  const auto add = [](float value) {
    return [value](auto& tensors) {
      Tensor extra(DType::kF32, {4});
      std::fill_n(extra.template as<float>(), 4, value);
      tensors.emplace_back("adapter.extra", extra);
    };
  };
  change_source(add(NAN));
  write("recipe.yaml",
        "version: 1\nmodel: model\noutput: out\nscheme: W4A16\ntuning: {iters: 0}\nformats: [auto_round]\n");
  const Outcome told = run("run " + (work_ / "recipe.yaml").string());
  EXPECT_EQ(told.code, 0);
  EXPECT_TRUE(told.output.starts_with("warning: " + (work_ / "model").string() +
                                      ": adapter.extra has 4 elements that are NaN or infinite, the first at [0]. The "
                                      "model does not compute with it: it is carried as it is\n"))
      << told.output;
  EXPECT_NE(told.output.find("adapter.extra holds NaN or infinity, as the source does\n"), std::string::npos)
      << told.output;

  std::filesystem::remove_all(work_ / "model");
  std::filesystem::remove_all(work_ / "out");
  change_source(add(1));
  expect_verified("auto_round", "W4A16");
  damage([](const std::string& name, Tensor& tensor) {
    if (name == "adapter.extra") tensor.as<float>()[0] = NAN;
    return true;
  });
  const Outcome converted = run("convert " + (work_ / "out").string() + " --format auto_gptq");
  EXPECT_EQ(converted.code, 0) << converted.output;
  EXPECT_NE(converted.output.find("note: adapter.extra holds NaN or infinity, as the source does\n"), std::string::npos)
      << converted.output;
}

TEST_F(Verify, FindsLostTensors) {
  export_model();
  damage([](const std::string& name, Tensor&) { return name != "model.layers.1.input_layernorm.weight"; });
  const Outcome outcome = verify();
  EXPECT_EQ(outcome.code, 1);
  EXPECT_NE(outcome.output.find("model.layers.1.input_layernorm.weight is missing"), std::string::npos)
      << outcome.output;
}

}  // namespace
}  // namespace roundhouse
