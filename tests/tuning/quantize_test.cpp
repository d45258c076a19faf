// What a run hands to its formats: every tensor of the source once, as itself or as a layer.
#include <algorithm>
#include <cmath>
#include <set>

#include "kernels/floats.h"
#include "tests/tuning/quantize_fixture.h"

namespace roundhouse {
namespace {

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
