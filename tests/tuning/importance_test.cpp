// SPDX-License-Identifier: Apache-2.0
// The importance matrix: collected, passed to searching data types, saved and read again.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <cstring>

#include "host/base/cpu.h"
#include "host/base/error.h"
#include "host/base/words.h"
#include "host/checkpoint/imatrix_file.h"
#include "host/export/journal.h"
#include "host/model/decoder.h"
#include "host/plan/imatrix.h"
#include "host/plan/passes.h"
#include "host/tuning/expert_tokens.h"
#include "tests/tuning/quantize_fixture.h"

namespace roundhouse {
namespace {

const std::string kSearched = "scheme: {data_type: weighted}\ntuning: {iters: 0, search: true}\n";

class ImportanceTest : public QuantizeTest {
 protected:
  std::string with_file(const std::string& name) const {
    return kSearched + "imatrix: {file: " + (folder_.path() / name).string() + "}\n";
  }
  std::string problems_of(const std::string& recipe) {
    try {
      problem(kUntied, recipe);
      return "";
    } catch (const Error& e) {
      return e.what();
    }
  }
  // A model of one block with four experts.
  fs::path mixture() {
    fs::create_directory(folder_.path() / "mixture");
    std::ofstream(folder_.path() / "mixture/config.json")
        << R"({"model_type": "qwen3_moe", "vocab_size": 64, "hidden_size": 64, "intermediate_size": 64,
               "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 16,
               "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "tie_word_embeddings": true})";
    std::vector<std::pair<std::string, Tensor>> tensors;
    std::mt19937 random(1);
    const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
      const Tensor& tensor = tensors.emplace_back(name + ".weight", Tensor(DType::kF32, std::move(shape))).second;
      for (int64_t i = 0; i < tensor.elements(); ++i)
        tensor.as<float>()[i] = static_cast<float>(random() % 1024) / 1024 - (tensor.shape().size() > 1 ? 0.5F : 0);
    };
    const std::string block = "model.layers.0.";
    for (const char* norm : {"model.norm", "model.layers.0.input_layernorm", "model.layers.0.post_attention_layernorm"})
      add(norm, {64});
    for (const char* norm : {"q_norm", "k_norm"}) add(block + "self_attn." + norm, {16});
    for (const char* layer : {"q_proj", "k_proj", "v_proj", "o_proj"}) add(block + "self_attn." + layer, {64, 64});
    add("model.embed_tokens", {64, 64});
    add(block + "mlp.gate", {4, 64});
    for (int expert = 0; expert < 4; ++expert)
      for (const char* layer : {"gate_proj", "up_proj", "down_proj"})
        add(cat(block, "mlp.experts.", expert, ".", layer), {64, 64});
    write_safetensors_file(folder_.path() / "mixture/model.safetensors", tensors);
    return folder_.path() / "mixture";
  }
  // The file of another run, changed.
  void save_changed(const std::function<void(ImatrixEntries&)>& change) {
    if (!fs::exists(folder_.path() / "original.gguf")) {
      Problem p = problem(kUntied, kSearched + "imatrix: {save: original.gguf}\n");
      const Recording got = p.quantized();
      save_importance(p.plan, p.architecture, got.seen.importance, got.seen.tokens);
    }
    Imatrix imatrix{read_imatrix(folder_.path() / "original.gguf"), "", 1, 1};
    change(imatrix.entries);
    write_imatrix(folder_.path() / "changed.gguf", imatrix);
  }
};

bool same(const Tensor& a, const Tensor& b) {
  return a.bytes() == b.bytes() && std::memcmp(a.data(), b.data(), a.bytes()) == 0;
}

TEST_F(ImportanceTest, IsTheSumOfSquaredInputs) {
  Problem p = problem(kUntied, kSearched + "layers: [{match: lm_head}]\n");
  p.draw_samples(5, 512);  // units of two, two and one
  const Recording got = p.quantized();
  const at::NoGradGuard no_grad;
  const at::ScalarType type = computes_in_bfloat16(false) ? at::kBFloat16 : at::kFloat;
  Decoder decoder(p.architecture, p.source, type, at::kCPU);
  std::map<std::string, std::vector<std::vector<double>>> sums;  // of each unit
  decoder.set_input_hook([&](const LinearInfo& linear, const at::Tensor& input) {
    const at::Tensor x = input.to(at::kFloat).reshape({-1, linear.in_features}).contiguous();
    std::vector<double>& sum = sums[linear.name].emplace_back(static_cast<size_t>(linear.in_features));
    for (int64_t i = 0; i < x.numel(); ++i) {
      const double value = x.const_data_ptr<float>()[i];
      sum[static_cast<size_t>(i % linear.in_features)] += value * value;
    }
    return input;
  });
  at::Tensor ids = at::empty({5, 512}, at::kLong);
  for (int64_t i = 0; i < ids.numel(); ++i)
    ids.mutable_data_ptr<int64_t>()[i] = p.samples[static_cast<size_t>(i / 512)][static_cast<size_t>(i % 512)];
  const PositionData positions = decoder.positions(512);
  for (const auto& [begin, end] : {std::pair{0, 2}, {2, 4}, {4, 5}}) {
    at::Tensor hidden = decoder.embed(ids.slice(0, begin, end));
    for (int64_t block = 0; block < 2; ++block) hidden = decoder.block(block).forward(hidden, positions);
    decoder.head(hidden);
  }
  ASSERT_EQ(got.layers.size(), 15u);
  for (const auto& [name, layer] : got.layers) {
    ASSERT_EQ(layer.tensors[0].elements(), layer.info.in_features);
    const auto& units = sums.at(name);
    ASSERT_EQ(units.size(), 3u);
    for (size_t c = 0; c < units[0].size(); ++c)
      ASSERT_EQ(layer.tensors[0].as<float>()[c], static_cast<float>((units[0][c] + units[1][c]) + units[2][c]))
          << name << ", channel " << c;
  }
}

TEST_F(ImportanceTest, BitsDoNotDependOnTheThreads) {
  Recording runs[2];
  for (int i = 0; i < 2; ++i) {
    set_threads(i + 1);
    runs[i] = quantize_model(kUntied, kSearched);
  }
  set_threads(0);
  for (const auto& [name, layer] : runs[0].layers)
    EXPECT_TRUE(same(layer.tensors[0], runs[1].layers.at(name).tensors[0])) << name;
}

TEST_F(ImportanceTest, TheSavedFileGivesTheSameBits) {
  Problem p = problem(kUntied, kSearched + "imatrix: {save: saved.gguf}\n");
  const Recording collected = p.quantized();
  save_importance(p.plan, p.architecture, collected.seen.importance, collected.seen.tokens);
  const ImatrixEntries entries = read_imatrix(folder_.path() / "saved.gguf");
  EXPECT_EQ(entries.size(), 14u);
  EXPECT_EQ(entries.at("blk.1.ffn_down.weight").counts, std::vector<double>{8 * 16});
  Problem again = problem(kUntied, with_file("saved.gguf"));
  EXPECT_FALSE(passes(again.plan).any()) << "nothing is left to collect";
  again.samples.clear();
  const Recording read = again.quantized();
  for (const auto& [name, layer] : collected.layers)
    for (size_t t = 0; t < layer.tensors.size(); ++t)
      EXPECT_TRUE(same(layer.tensors[t], read.layers.at(name).tensors[t])) << name;
}

TEST_F(ImportanceTest, TheExpertsOfABlockAreOneEntryAsInLlamaCpp) {
  const fs::path model = mixture();
  const std::string name = "blk.0.ffn_up_exps.weight", layer = "model.layers.0.mlp.experts.2.up_proj";
  Problem p = problem(model, kSearched + "imatrix: {save: saved.gguf}\n");
  const auto save = [&](int64_t least) {
    p.plan.recipe.tuning.least_tokens = least;
    Recording run = p.quantized();
    save_importance(p.plan, p.architecture, run.seen.importance, run.seen.tokens);
    return run;
  };
  const auto counts = [&](const std::string& entry) {
    return read_imatrix(folder_.path() / "saved.gguf").at(entry).counts;
  };
  save(8 * 16 * 2);  // those of all experts for each
  EXPECT_EQ(counts(name), std::vector<double>(4, 8 * 16 * 2));
  const Recording run = save(0);
  const Importance& importance = run.seen.importance;
  std::vector<double> routed;
  for (const int64_t tokens : run.blocks[0].expert_tokens)
    routed.push_back(static_cast<double>(tokens > 0 ? tokens : 8 * 16 * 2));
  EXPECT_EQ(counts(name), routed);
  EXPECT_NE(routed, std::vector<double>(4, routed[0]));
  EXPECT_EQ(counts("blk.0.ffn_gate_inp.weight"), std::vector<double>{8 * 16});
  Imatrix saved{read_imatrix(folder_.path() / "saved.gguf"), "", 1, 1};
  EXPECT_EQ(saved.entries.size(), 4u + 1 + 3);  // attention, router, experts
  const Problem again = problem(model, with_file("saved.gguf"));
  for (const LayerPlan& planned : again.plan.layers) {
    if (planned.block < 0 || planned.info.decides) continue;
    const std::string& searched = planned.info.name;
    EXPECT_TRUE(same(importance.at(searched).sums, again.plan.importance.at(searched).sums)) << searched;
    EXPECT_EQ(importance.at(searched).count, again.plan.importance.at(searched).count) << searched;
  }

  saved.entries.at(name).counts[2] = 0;
  write_imatrix(folder_.path() / "changed.gguf", saved);
  const Problem unreached = problem(model, with_file("changed.gguf"));
  EXPECT_FALSE(unreached.plan.importance.contains(layer));
  EXPECT_NE(joined(unreached.plan.warnings).find("no token reached " + layer), std::string::npos);
}

// Symmetric int, searched, has scales of another type than tuned; formats were told of the tuned ones.
TEST_F(ImportanceTest, ExpertsWithFewTokensKeepThePlannedEncoding) {
  const fs::path model = mixture();
  for (const auto& [scheme, rounding] :
       {std::pair{"W4A16", Rounding::kTunedSearch},
        {"{data_type: int, bits: 4, group_size: 32, sym: false}", Rounding::kSearch},
        {"{data_type: int, bits: 8, group_size: 0}", Rounding::kPlain},  // searched, it is refused
        {"{data_type: fp8, bits: 8, group_size: 32}", Rounding::kPlain}}) {
    SCOPED_TRACE(scheme);
    Problem p = problem(model, cat("scheme: ", scheme, "\ntuning: {iters: 2, least_tokens: 1000}\n"));
    const Recording got = p.quantized();
    EXPECT_EQ(got.blocks.at(0).few, 4);
    int experts = 0;
    for (const LayerPlan& layer : p.plan.layers) {
      if (!layer.info.stack || !layer.encoding) continue;
      ++experts;
      const LayerPlan left = untuned_as_planned(layer, p.catalogue);
      EXPECT_EQ(left.scheme.weight->rounding, rounding);
      const rh_encoding& planned = layer.encoding->get();
      const std::vector<Tensor>& tensors = got.layers.at(layer.info.name).tensors;
      ASSERT_EQ(tensors.size(), planned.tensor_count);
      for (size_t i = 0; i < tensors.size(); ++i) EXPECT_EQ(tensors[i].dtype(), from_rh(planned.tensors[i]->dtype));
    }
    EXPECT_EQ(experts, 12);
  }
}

TEST_F(ImportanceTest, ARecordGivesBackWhatWasObserved) {
  Observations seen, back;
  seen.importance["a"] = {Tensor(DType::kF32, {2}), 3};
  seen.importance["a"].sums.as<float>()[1] = 0.5F;
  seen.ranges["b"] = Tensor(DType::kF32, {1});
  Journal journal(folder_.path() / "journal", nlohmann::json::object());
  journal.add([&](RecordWriter& record) { add_observations(record, seen); });
  take_observations(journal.open(journal.records().at(0)), back);
  ASSERT_EQ(back.importance.size(), 1u);
  EXPECT_TRUE(same(back.importance.at("a").sums, seen.importance.at("a").sums));
  EXPECT_EQ(back.importance.at("a").count, 3);
  EXPECT_TRUE(same(back.ranges.at("b"), seen.ranges.at("b")));
}

TEST_F(ImportanceTest, ReadsTheOlderFormatAndTheCheckpointsNames) {
  Problem p = problem(kUntied, kSearched);
  const Importance importance = p.quantized().seen.importance;
  std::ofstream file(folder_.path() / "old.dat", std::ios::binary);
  const auto number = [&](int32_t n) { file.write(reinterpret_cast<const char*>(&n), sizeof n); };
  number(static_cast<int32_t>(importance.size()));
  for (const auto& [layer, squares] : importance) {
    number(static_cast<int32_t>(layer.size() + 7));
    file << layer << ".weight";
    number(3);
    const Tensor& sums = squares.sums;
    number(static_cast<int32_t>(sums.elements()));
    file.write(static_cast<const char*>(sums.data()), static_cast<std::streamsize>(sums.bytes()));
  }
  file.close();
  const Problem again = problem(kUntied, with_file("old.dat"));
  ASSERT_EQ(again.plan.importance.size(), 14u);
  for (const auto& [layer, squares] : importance)
    EXPECT_TRUE(same(squares.sums, again.plan.importance.at(layer).sums)) << layer;
}

TEST_F(ImportanceTest, WhatDoesNotFitIsRefusedWithTheLayersName) {
  const std::string name = "blk.1.attn_q.weight", layer = "model.layers.1.self_attn.q_proj";
  const auto expect_problem = [&](const std::function<void(ImatrixEntry&)>& change, const std::string& why) {
    save_changed([&](ImatrixEntries& entries) { change(entries.at(name)); });
    const std::string problems = problems_of(with_file("changed.gguf"));
    for (const std::string& part : {name, layer, why, std::string("omit imatrix.file")})
      EXPECT_NE(problems.find(part), std::string::npos) << "no " << part << " in: " << problems;
  };
  expect_problem([](ImatrixEntry& e) { e.squares = Tensor(DType::kF32, {64}); }, "64 values, but the layer has 256");
  expect_problem([](ImatrixEntry& e) { e.counts = {0}; }, "no tokens");
  for (const float bad : {NAN, -1.0f, INFINITY})
    expect_problem(
        [&](ImatrixEntry& e) {
          e.squares = e.squares.to(DType::kF32);
          e.squares.as<float>()[5] = bad;
        },
        "at channel 5");
  save_changed([&](ImatrixEntries& entries) { entries.erase(name); });
  const std::string problems = problems_of(with_file("changed.gguf"));
  EXPECT_NE(problems.find("has no blk.1.attn_q.weight for"), std::string::npos) << problems;
}

TEST_F(ImportanceTest, AFileThatIsNoneIsRefused) {
  std::ofstream(folder_.path() / "text.gguf") << "no importance at all";
  EXPECT_NE(problems_of(with_file("text.gguf")).find("is no importance matrix"), std::string::npos);
  Problem p = problem(kUntied, kSearched);
  EXPECT_TRUE(passes(p.plan).importance);
  EXPECT_NE(problems_of(kSearched + "imatrix: {fil: a}\n").find("did you mean file?"), std::string::npos);
  EXPECT_NE(problems_of(kSearched + "imatrix: {save: /no/such/folder/a.gguf}\n").find("there is no folder"),
            std::string::npos);
}

}  // namespace
}  // namespace roundhouse
