// What a run exported reads back as what it made, and damage is found.
#include <gtest/gtest.h>

#include <cstring>
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

TEST_F(Verify, FindsConstantWeights) {
  export_model();
  damage([](const std::string& name, Tensor& tensor) {
    if (name == "model.layers.0.self_attn.k_proj.weight") std::memset(tensor.data(), 0, tensor.bytes());
    return true;
  });
  const Outcome outcome = verify();
  EXPECT_EQ(outcome.code, 1);
  EXPECT_NE(outcome.output.find("k_proj.weight is one constant"), std::string::npos) << outcome.output;
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
