// SPDX-License-Identifier: Apache-2.0
#include "host/model/architecture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <functional>

#include "host/base/error.h"

namespace roundhouse {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
namespace fs = std::filesystem;

const fs::path kShipped = fs::path(ROUNDHOUSE_SOURCE) / "configs/architectures";

json llama_config() {
  return {{"model_type", "llama"},    {"vocab_size", 100},      {"hidden_size", 64},
          {"intermediate_size", 96},  {"num_hidden_layers", 2}, {"num_attention_heads", 8},
          {"num_key_value_heads", 2}, {"rms_norm_eps", 1e-5},   {"max_position_embeddings", 128},
          {"rope_scaling", nullptr},  {"rope_theta", 10000.0},  {"tie_word_embeddings", false}};
}

json opt_config() {
  return {{"model_type", "opt"}, {"vocab_size", 100},      {"hidden_size", 64},
          {"ffn_dim", 96},       {"num_hidden_layers", 1}, {"num_attention_heads", 8}};
}

class ArchitectureTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    dir_ = fs::temp_directory_path() / ("rh_architecture_" + std::string(test->name()) + std::to_string(getpid()));
    fs::create_directories(dir_);
  }
  void TearDown() override { fs::remove_all(dir_); }

  void write(const std::string& name, const std::string& text) { std::ofstream(dir_ / name) << text; }

  Architecture load(const json& config, std::vector<fs::path> dirs = {kShipped}) {
    write("config.json", config.dump());
    return Architecture::load(dir_, dirs);
  }

  static std::string llama_yaml() {
    std::ifstream shipped(kShipped / "llama.yaml");
    return {std::istreambuf_iterator<char>(shipped), {}};
  }
  // The error of a Llama whose descriptor has `to` in place of the first `from`.
  std::string error_with_descriptor(const std::string& from, const std::string& to, const json& config) {
    std::string edited = llama_yaml();
    edited.replace(edited.find(from), from.size(), to);
    write("edited.yaml", edited);
    return error_of([&] { load(config, {dir_}); });
  }

  std::string error_of(const std::function<void()>& action) {
    try {
      action();
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  }

  fs::path dir_;
};

TEST_F(ArchitectureTest, ResolvesSizesAndNames) {
  const Architecture model = load(llama_config());
  EXPECT_EQ(model.family(), "llama");
  EXPECT_EQ(model.blocks(), 2);
  EXPECT_EQ(model.vocab_size(), 100);
  EXPECT_EQ(model.hidden_size(), 64);
  EXPECT_EQ(model.max_positions(), 128);
  EXPECT_EQ(model.block_prefix(), "model.layers");
  EXPECT_EQ(model.embedding_name(), "model.embed_tokens");
  EXPECT_EQ(model.config()["num_key_value_heads"], 2);

  std::vector<std::string> lines;
  for (const LinearInfo& l : model.block_linears(1))
    lines.push_back(
        cat(l.name, " ", l.role, " ", l.siblings, " ", l.out_features, "x", l.in_features, " ", l.has_bias));
  EXPECT_THAT(lines, ElementsAre("model.layers.1.self_attn.q_proj q_proj qkv 64x64 0",
                                 "model.layers.1.self_attn.k_proj k_proj qkv 16x64 0",
                                 "model.layers.1.self_attn.v_proj v_proj qkv 16x64 0",
                                 "model.layers.1.self_attn.o_proj o_proj  64x64 0",
                                 "model.layers.1.mlp.gate_proj gate_proj gate_up 96x64 0",
                                 "model.layers.1.mlp.up_proj up_proj gate_up 96x64 0",
                                 "model.layers.1.mlp.down_proj down_proj  64x96 0"));
  EXPECT_THAT(model.block_tensors(0),
              testing::UnorderedElementsAre(
                  "model.layers.0.input_layernorm.weight", "model.layers.0.post_attention_layernorm.weight",
                  "model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.k_proj.weight",
                  "model.layers.0.self_attn.v_proj.weight", "model.layers.0.self_attn.o_proj.weight",
                  "model.layers.0.mlp.gate_proj.weight", "model.layers.0.mlp.up_proj.weight",
                  "model.layers.0.mlp.down_proj.weight"));
  EXPECT_THAT(model.outer_tensors(), ElementsAre("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"));
}

TEST_F(ArchitectureTest, ATiedHeadIsNotATensorOfItsOwn) {
  json config = llama_config();
  config["tie_word_embeddings"] = true;
  const Architecture model = load(config);
  EXPECT_TRUE(model.tied_head());
  EXPECT_EQ(model.head().name, "lm_head");
  EXPECT_THAT(model.outer_tensors(), ElementsAre("model.embed_tokens.weight", "model.norm.weight"));
}

// Nested keys stayed, and engines tied the head that an export stores.
TEST_F(ArchitectureTest, AHeadIsUntiedUnderEveryKeyThatTheDescriptorNames) {
  const json tied = {{"tie_word_embeddings", true}}, untied = {{"tie_word_embeddings", false}};
  json text = llama_config();
  text.update(tied);
  Architecture nested = load({{"model_type", "llava"}, {"text_config", text}});
  ASSERT_TRUE(nested.tied_head());
  nested.untie_head();
  EXPECT_FALSE(nested.tied_head());
  text.update(untied);
  EXPECT_EQ(nested.config(), (json{{"model_type", "llava"}, {"text_config", text}, {"tie_word_embeddings", false}}));
  text["tie_word_embeddings"] = true;
  Architecture either = load({{"model_type", "qwen2_vl"}, {"text_config", text}, {"tie_word_embeddings", false}});
  ASSERT_TRUE(either.tied_head());
  either.untie_head();
  text.update(untied);
  EXPECT_EQ(either.config(), (json{{"model_type", "qwen2_vl"}, {"text_config", text}, {"tie_word_embeddings", false}}));
  Architecture opt = load(opt_config());  // tied where nothing is said
  opt.untie_head();
  EXPECT_EQ(opt.config()["tie_word_embeddings"], false);
}

TEST_F(ArchitectureTest, ReadsThePlacesOfNormsAndProjectionsFromTheConfig) {
  json config = opt_config();
  const Architecture before = load(config);
  EXPECT_TRUE(before.info().blocks[0].steps[0].norm_in);
  EXPECT_FALSE(before.info().blocks[0].steps[0].norm_sum);
  EXPECT_FALSE(before.info().project_in);
  EXPECT_THAT(before.outer_tensors(),
              ElementsAre("model.decoder.embed_tokens.weight", "model.decoder.embed_positions.weight",
                          "model.decoder.final_layer_norm.weight", "model.decoder.final_layer_norm.bias"));

  config["do_layer_norm_before"] = false;
  config["word_embed_proj_dim"] = 32;
  const Architecture after = load(config);
  EXPECT_FALSE(after.info().blocks[0].steps[0].norm_in);
  EXPECT_TRUE(after.info().blocks[0].steps[0].norm_sum);
  EXPECT_THAT(after.outer_tensors(),
              ElementsAre("model.decoder.embed_tokens.weight", "model.decoder.embed_positions.weight",
                          "model.decoder.project_in.weight", "model.decoder.project_out.weight"));
  EXPECT_EQ(after.head().in_features, 32);
}

TEST_F(ArchitectureTest, SlidingWindowIsForTheBlocksThatTheConfigNames) {
  json config = llama_config();
  config.update({{"model_type", "qwen2"}, {"num_hidden_layers", 3}, {"sliding_window", 16}});
  const auto windows = [&] {
    std::vector<int64_t> all;
    const Architecture model = load(config);
    for (const BlockInfo& block : model.info().blocks)
      all.push_back(block.steps[0].attention->sliding_window.value_or(0));
    return all;
  };
  EXPECT_THAT(windows(), ElementsAre(0, 0, 0)) << "use_sliding_window is false unless given";
  config["use_sliding_window"] = true;
  config["max_window_layers"] = 2;
  EXPECT_THAT(windows(), ElementsAre(0, 0, 16));
  config["layer_types"] = {"sliding_attention", "full_attention", "sliding_attention"};
  EXPECT_THAT(windows(), ElementsAre(16, 0, 16)) << "layer_types wins over max_window_layers";
  config["layer_types"] = {"sliding_attention"};
  EXPECT_THAT(error_of([&] { windows(); }), AllOf(HasSubstr("config.json: layer_types"), HasSubstr("3 blocks")));
}

TEST_F(ArchitectureTest, KeysForOtherWorldsRideAlong) {
  write("own.yaml", llama_yaml() + "  elsewhere: {q_proj: attn_q}\n");
  EXPECT_EQ(load(llama_config(), {dir_}).facts()["names"]["elsewhere"]["q_proj"], "attn_q");
}

TEST_F(ArchitectureTest, TheFirstFolderWins) {
  const fs::path own = dir_ / "own";
  fs::create_directories(own);
  std::string text = llama_yaml();
  text.replace(text.find("family: llama"), 13, "family: mine");
  write("own/mine.yaml", text);
  EXPECT_EQ(load(llama_config(), {dir_ / "missing", own, kShipped}).family(), "mine");
  EXPECT_EQ(load(llama_config(), {kShipped, own}).family(), "llama");
}

TEST_F(ArchitectureTest, AnUnknownModelTypeSaysWhatIsKnownAndWhereToAddOne) {
  json config = llama_config();
  config["model_type"] = "mamba";
  EXPECT_THAT(
      error_of([&] { load(config); }),
      AllOf(HasSubstr("config.json"), HasSubstr("\"mamba\""), HasSubstr("llama, llama4, llama4_text, llava/llama, "),
            HasSubstr("set tuning.iters to 0"), HasSubstr(kShipped.string()), HasSubstr("To add one")));
  EXPECT_THAT(error_of([&] { load(config, {dir_}); }), HasSubstr("Known: none"));
}

json experts_config() {
  json config = llama_config();
  config.update({{"model_type", "glm4_moe"},
                 {"n_routed_experts", 4},
                 {"num_experts_per_tok", 2},
                 {"moe_intermediate_size", 32},
                 {"n_shared_experts", 2},
                 {"first_k_dense_replace", 1}});
  return config;
}

TEST_F(ArchitectureTest, ExpertsHaveNamesAndPlaces) {
  const Architecture model = load(experts_config());
  EXPECT_EQ(model.block_linears(0).size(), 7) << "the first block is dense";
  const std::vector<LinearInfo> linears = model.block_linears(1);
  ASSERT_EQ(linears.size(), 4 + 1 + 4 * 3 + 3);
  EXPECT_EQ(linears[4].name, "model.layers.1.mlp.gate");
  EXPECT_TRUE(linears[4].decides && linears[4].float32 && !linears[4].stack);
  const LinearInfo& up = linears[5 + 3 * 2 + 1];
  EXPECT_EQ(up.name, "model.layers.1.mlp.experts.2.up_proj");
  EXPECT_EQ(up.role, "up_proj");
  EXPECT_EQ(up.siblings, linears[5 + 3 * 2].siblings);
  EXPECT_NE(up.siblings, linears[5 + 3 * 1].siblings);
  EXPECT_EQ(up.out_features, 32);
  EXPECT_EQ(up.stack->name, "model.layers.1.mlp.experts.up_proj");
  EXPECT_EQ(up.stack->index, 2);
  EXPECT_EQ(up.stack->count, 4);
  EXPECT_EQ(linears.back().name, "model.layers.1.mlp.shared_experts.down_proj");
  EXPECT_EQ(linears.back().in_features, 64) << "two shared experts are one";
  EXPECT_THAT(model.block_tensors(1), testing::Contains("model.layers.1.mlp.gate.e_score_correction_bias"));
}

TEST_F(ArchitectureTest, ImpossibleExpertsAreRefused) {
  std::ifstream shipped(kShipped / "glm4_moe.yaml");
  const std::string text{std::istreambuf_iterator<char>(shipped), {}};
  const auto error_with = [&](const std::string& from, const std::string& to) {
    std::string edited = text;
    edited.replace(edited.find(from), from.size(), to);
    write("edited.yaml", edited);
    return error_of([&] { load(experts_config(), {dir_}); });
  };
  EXPECT_THAT(error_with("scores: sigmoid", "scores: coin"),
              HasSubstr("block.steps[1].experts.router.scores is \"coin\", but softmax, sigmoid or sparsemixer"));
  EXPECT_THAT(error_with("parts: [down_proj]", "parts: [w2]"),
              HasSubstr("\"w2\", but gate_proj, up_proj or down_proj"));
  EXPECT_THAT(error_with("shared:", "shares:"), HasSubstr("the key shares is unknown"));
  json config = experts_config();
  config["num_experts_per_tok"] = 5;
  EXPECT_THAT(error_of([&] { load(config); }), HasSubstr("num_experts_per_tok is 5, but at most the 4 experts"));
  config = experts_config();
  config["n_group"] = 3;
  EXPECT_THAT(error_of([&] { load(config); }), HasSubstr("n_group is 3, but a divisor of the 4 experts"));
}

TEST_F(ArchitectureTest, AKeyMayLieInAMap) {
  json config{{"model_type", "llava"}, {"text_config", llama_config()}};
  const Architecture architecture = load(config);
  EXPECT_EQ(architecture.family(), "llava");
  EXPECT_EQ(architecture.hidden_size(), 64);
  EXPECT_EQ(architecture.block_linears(1)[6].name, "language_model.model.layers.1.mlp.down_proj");
  config["text_config"].erase("hidden_size");
  EXPECT_THAT(error_of([&] { load(config); }), HasSubstr("config.json: the key text_config.hidden_size is missing"));
  config["text_config"]["model_type"] = "mamba";
  EXPECT_THAT(error_of([&] { load(config); }), HasSubstr("no architecture descriptor lists the model_type \"llava\""));
}

TEST_F(ArchitectureTest, AFamilyCanBeAskedFor) {
  json config = llama_config();
  config["model_type"] = "nobody";
  write("config.json", config.dump());
  EXPECT_EQ(Architecture::load(dir_, {kShipped}, {.family = "mistral"}).family(), "mistral");
  EXPECT_TRUE(Architecture::load(dir_, {kShipped}, {.family = "", .generic = true}).generic());
  EXPECT_THAT(error_of([&] { Architecture::load(dir_, {kShipped}, {.family = "misral"}); }),
              AllOf(HasSubstr("architecture: no descriptor is of the family misral"), HasSubstr("mistral")));
}

TEST_F(ArchitectureTest, OriginalPositionsBesideTheMapOfRotaryParametersHold) {
  json config = llama_config();
  config["rope_scaling"] = {{"rope_type", "yarn"}, {"factor", 4.0}};
  EXPECT_EQ(load(config).info().rotary->original_positions, 128);
  config["rope_scaling"]["original_max_position_embeddings"] = 64;
  EXPECT_EQ(load(config).info().rotary->original_positions, 64);
  config["rope_scaling"]["factor"] = nullptr;
  EXPECT_EQ(load(config).info().rotary->factor, 2) << "128 positions, as in transformers";
  EXPECT_TRUE(load(config).info().rotary->truncate);
  config["rope_scaling"]["truncate"] = nullptr;
  EXPECT_FALSE(load(config).info().rotary->truncate) << "as in Python";
  config["original_max_position_embeddings"] = 32;
  EXPECT_EQ(load(config).info().rotary->original_positions, 32);
  std::string chosen = llama_yaml();
  const std::string first = "  rotary:\n    theta:";
  const size_t begin = chosen.find(first), end = chosen.find("\n\n", begin);
  ASSERT_NE(begin, std::string::npos);
  chosen.replace(begin, end - begin,
                 "  rotary: {choose: [{value: {theta: {key: rope_theta}, scaling: {key: rope_scaling}}}]}");
  write("chosen.yaml", chosen);
  EXPECT_EQ(load(config, {dir_}).info().rotary->original_positions, 32);
}

// It was refused, and where a type was beside another map, the map of each kind counted for nothing.
TEST_F(ArchitectureTest, MapsOfRotaryParametersAreTakenAsInTransformers) {
  json config = llama_config();
  config["rope_scaling"] = {{"factor", 2.0}};
  const Architecture untyped = load(config);
  EXPECT_EQ(untyped.info().rotary->scaling, RotaryInfo::Scaling::kNone);
  EXPECT_THAT(untyped.info().warnings,
              ElementsAre((dir_ / "config.json").string() +
                          ": rope_scaling.factor changes nothing: no rope_type says how positions are scaled"));
  config["rope_scaling"] = {{"type", "linear"}, {"factor", 2.0}};
  EXPECT_THAT(load(config).info().warnings, IsEmpty());

  config.update({{"model_type", "gemma3_text"}, {"rope_theta", 7.0}, {"rope_local_base_freq", 9.0}});
  const Architecture old = load(config);  // the map for the kind has a rope_type already, the default
  EXPECT_EQ(old.info().rotary->scaling, RotaryInfo::Scaling::kNone);
  EXPECT_EQ(old.info().rotary->theta, 7);
  EXPECT_EQ(old.info().window_rotary->theta, 9);
  EXPECT_THAT(old.info().warnings, ElementsAre(HasSubstr(": rope_scaling.factor changes nothing")));
  config["rope_parameters"] = {{"full_attention", {{"rope_theta", 5.0}, {"factor", 3.0}}},
                               {"sliding_attention", {{"rope_type", "linear"}, {"factor", 4.0}}}};
  const Architecture both = load(config);
  EXPECT_EQ(both.info().rotary->scaling, RotaryInfo::Scaling::kLinear);
  EXPECT_EQ(both.info().rotary->factor, 2);
  EXPECT_EQ(both.info().rotary->theta, 5);
  EXPECT_EQ(both.info().window_rotary->factor, 4);
  EXPECT_EQ(both.info().window_rotary->theta, 9);
  EXPECT_THAT(both.info().warnings, IsEmpty());
}

TEST_F(ArchitectureTest, AFractionInTheMapOfRotaryParametersIsNoneWhereTheFamilyTurnsWholeHeads) {
  json config = llama_config();
  config["rope_scaling"] = {{"rope_type", "default"}, {"partial_rotary_factor", 0.5}};
  EXPECT_EQ(load(config).info().rotary->dims, 8);
}

// Of a family that turns a part of each head.
TEST_F(ArchitectureTest, AFractionThatIsNullIsAWholeHeadAsInTransformersAndInTheMapAnError) {
  json text = llama_config();
  text.update({{"model_type", "qwen3_5_text"}, {"head_dim", 32}});
  text.erase("rope_scaling");
  const auto rotated = [&] { return load(text).info().rotary->dims; };
  EXPECT_EQ(rotated(), 8);
  text["partial_rotary_factor"] = nullptr;
  EXPECT_EQ(rotated(), 32);
  EXPECT_EQ(load({{"model_type", "qwen3_5"}, {"text_config", text}}).info().rotary->dims, 32);
  text["partial_rotary_factor"] = 0.5;
  EXPECT_EQ(rotated(), 16);
  text["rope_parameters"] = {{"rope_type", "default"}, {"partial_rotary_factor", nullptr}};
  EXPECT_THAT(error_of(rotated), HasSubstr("config.json: rope_parameters.partial_rotary_factor is null, but a number, "
                                           "or no such key, is expected"));
}

// The keys of transformers' class of the whole model, and its default.
TEST_F(ArchitectureTest, TheHeadOfAMultimodalModelIsTiedAsInTransformers) {
  const auto tied = [&](const char* type, const char* text_type, const json& whole, const json& text) {
    json config{{"model_type", type}, {"text_config", llama_config()}};
    config["text_config"].erase("tie_word_embeddings");
    config["text_config"].update({{"model_type", text_type}, {"layer_types", {"full_attention", "full_attention"}}});
    if (!whole.is_null()) config["tie_word_embeddings"] = whole;
    if (!text.is_null()) config["text_config"]["tie_word_embeddings"] = text;
    return load(config).tied_head();
  };
  for (const auto& [type, text] : {std::pair{"mistral3", "mistral"},
                                   {"mistral3", "ministral3"},
                                   {"gemma3", "gemma3_text"},
                                   {"gemma4", "gemma4_text"}}) {
    EXPECT_TRUE(tied(type, text, nullptr, nullptr)) << type << text;
    EXPECT_TRUE(tied(type, text, nullptr, false)) << type << text;
    EXPECT_FALSE(tied(type, text, false, true)) << type << text;
  }
  EXPECT_TRUE(tied("llava", "llama", false, true));
  EXPECT_FALSE(tied("llava", "llama", nullptr, nullptr));
  json config = llama_config();
  config.erase("tie_word_embeddings");
  config["model_type"] = "ministral3";
  Architecture text = load(config);
  EXPECT_FALSE(text.tied_head());
}

TEST_F(ArchitectureTest, OnlyTheTextModelOfGemma3LimitsItsLogits) {
  json config = llama_config();
  config.update({{"model_type", "gemma3_text"}, {"final_logit_softcapping", 30.0}});
  EXPECT_EQ(load(config).info().logit_softcap, 30);
  EXPECT_FALSE(load({{"model_type", "gemma3"}, {"text_config", config}, {"final_logit_softcapping", 30.0}})
                   .info()
                   .logit_softcap);
}

TEST_F(ArchitectureTest, ConfigErrorsNameTheFileAndTheKey) {
  const auto error_with = [&](const std::string& key, const json& value) {
    json config = llama_config();
    config[key] = value;
    return error_of([&] { load(config); });
  };
  const std::string file = (dir_ / "config.json").string();
  json config = llama_config();
  config.erase("hidden_size");
  EXPECT_THAT(error_of([&] { load(config); }), AllOf(HasSubstr(file), HasSubstr("the key hidden_size is missing"),
                                                     HasSubstr("llama.yaml: sizes.hidden")));
  EXPECT_THAT(error_with("hidden_size", "64"), HasSubstr(file + ": hidden_size is \"64\", but an integer above 0"));
  EXPECT_THAT(error_with("num_hidden_layers", 0), HasSubstr(file + ": num_hidden_layers is 0"));
  EXPECT_THAT(error_with("num_hidden_layers", "2"),
              HasSubstr(file + ": num_hidden_layers is \"2\", but an integer above 0"));
  EXPECT_THAT(error_with("num_key_value_heads", 3), HasSubstr(file + ": num_key_value_heads is 3"));
  EXPECT_THAT(error_with("num_attention_heads", 6), HasSubstr(file + ": num_attention_heads is 6"));
  EXPECT_THAT(error_with("rms_norm_eps", true), HasSubstr(file + ": rms_norm_eps is true, but a number"));
  EXPECT_THAT(error_with("tie_word_embeddings", 1), HasSubstr(file + ": tie_word_embeddings is 1, but true or false"));
  EXPECT_EQ(error_with("rope_scaling", json::object()), error_with("rope_scaling", nullptr));
  EXPECT_EQ(error_with("tie_word_embeddings", nullptr), error_with("tie_word_embeddings", false)) << "as in Python";
  EXPECT_THAT(error_with("hidden_act", "mish"), HasSubstr(file + ": hidden_act is \"mish\", but one of silu"));
  EXPECT_THAT(error_with("hidden_act", "xielu"), HasSubstr("an activation without parameters in a gated MLP"));
  EXPECT_THAT(error_with("rope_scaling", {{"rope_type", "su2"}}),
              HasSubstr(file + ": rope_scaling.rope_type is \"su2\", but a rope type of default, linear, dynamic, "
                               "llama3, yarn, longrope or proportional"));
  EXPECT_THAT(error_with("rope_scaling", {{"rope_type", "longrope"}, {"short_factor", {1, 2}}}),
              HasSubstr(file + ": rope_scaling.short_factor is [1,2], but 4 numbers, one for each pair"));
  EXPECT_THAT(error_with("rope_theta", nlohmann::json{{"__float__", "Infinity"}}),
              HasSubstr(file + R"(: rope_theta is {"__float__":"Infinity"}, but a number is expected)"));
  EXPECT_THAT(error_with("rope_scaling", {{"type", "linear"}}), HasSubstr(file + ": rope_scaling: the key factor"));
  EXPECT_THAT(error_with("rope_parameters", {{"full_attention", {{"rope_type", "default"}}}}),
              HasSubstr("for all blocks alike"));
  EXPECT_THAT(error_with("head_dim", 7), HasSubstr("even number of rotary features"));

  config = llama_config();
  config.erase("model_type");
  EXPECT_THAT(error_of([&] { load(config); }), HasSubstr(file + ": has no model_type"));
  write("config.json", "{\"model_type\": ");
  EXPECT_THAT(error_of([&] { Architecture::load(dir_, {kShipped}); }), HasSubstr(file + ": is not valid JSON"));
  fs::remove(dir_ / "config.json");
  EXPECT_THAT(error_of([&] { Architecture::load(dir_, {kShipped}); }),
              HasSubstr(dir_.string() + " has no config.json: a Hugging Face model folder is expected."));
}

TEST_F(ArchitectureTest, DescriptorErrorsNameTheFileAndThePlace) {
  const auto error_with = [&](const std::string& from, const std::string& to) {
    return error_with_descriptor(from, to, llama_config());
  };
  const std::string file = (dir_ / "edited.yaml").string();
  EXPECT_THAT(error_with("kind: rms", "kind: batch"), HasSubstr(file + ": norm.kind is \"batch\", but rms or layer"));
  EXPECT_THAT(error_with("norm_in:", "norm_inn:"),
              AllOf(HasSubstr(file + ": block.steps[0]: the key norm_inn is unknown"), HasSubstr("norm_in, ")));
  EXPECT_THAT(error_with("o_proj:", "out_proj:"), HasSubstr(file + ": block.steps[0].attention: the key out_proj"));
  EXPECT_THAT(error_with("version: 1", "version: 2"), HasSubstr(file + ": version: this Roundhouse reads version 1"));
  EXPECT_THAT(error_with("norm_in: input_layernorm", "norm_in: input_layernorm\n      when: 3"),
              HasSubstr(file + ": block.steps[0].when is 3, but true or false"));
  EXPECT_THAT(
      error_with("attention:\n", "attention:\n        q_norm: {name: n, over: heads}\n"),
      HasSubstr(file + ": block.steps[0].attention.q_norm.over is \"heads\", but head, each_head or all_heads"));
  EXPECT_THAT(error_with("embedding: {name:", "embedding: {scale: sqrt_heads, name:"),
              HasSubstr(file + ": embedding.scale is \"sqrt_heads\", but a number or sqrt_hidden"));
  EXPECT_THAT(error_with("attention:\n", "attention:\n        shared_kv: {last: 1}\n        qkv_proj: n\n"),
              HasSubstr(file + ": block.steps[0].attention.shared_kv is {\"last\":1}, but q_proj, k_proj and v_proj"));
  EXPECT_THAT(error_with("kind: rms", "kind: [rms"), HasSubstr(file + ":"));
  EXPECT_THAT(error_with("  kind: rms", "  kind: rms\n  kind: layer"), HasSubstr("the key kind is there twice"));
}

TEST_F(ArchitectureTest, WhichBlocksHaveAPart) {
  const auto rotated = [&](const std::string& which, json config) {
    config["num_hidden_layers"] = 4;
    std::string text = llama_yaml();
    text.replace(text.find("attention:\n"), 11, "attention:\n        rotary: " + which + "\n");
    write("own.yaml", text);
    std::string blocks;
    const Architecture model = load(config, {dir_});
    for (const BlockInfo& block : model.info().blocks) blocks += block.steps[0].attention->rotary ? '1' : '0';
    return blocks;
  };
  const json config = llama_config();
  EXPECT_EQ(rotated("{}", config), "1111");
  EXPECT_EQ(rotated("{first_block: 1}", config), "0111");
  EXPECT_EQ(rotated("{before_block: 3}", config), "1110");
  EXPECT_EQ(rotated("{all_but_every: 2}", config), "1010");
  EXPECT_EQ(rotated("{unless: {is_set: rope_scaling}}", config), "1111") << "null is none";
  EXPECT_EQ(rotated("{unless: {is_set: rope_theta}}", config), "0000");
  EXPECT_EQ(rotated("{when: {key: vocab_size, is: 100}}", config), "1111");
  EXPECT_EQ(rotated("{when: {key: nowhere, is: 100}}", config), "0000");
  EXPECT_EQ(rotated("{when: [true, {key: tie_word_embeddings}]}", config), "0000") << "all of them";
  EXPECT_EQ(rotated("{first_block: {choose: [{when: false, value: 1}, {value: 2}]}}", config), "0011");

  EXPECT_EQ(rotated("{every: 2}", config), "0101");
  EXPECT_EQ(rotated("{only: [0, 3]}", config), "1001");
  EXPECT_EQ(rotated("{except: [0, 3], first_block: 2}", config), "0010");
  EXPECT_EQ(rotated("{only: null, except: []}", config), "1111");
  EXPECT_EQ(rotated("{labels: [a, b, c, a], label: [a, c]}", config), "1011");
  EXPECT_EQ(rotated("{labels: \"M*-M\", label: [M, \"*\"]}", config), "1101");
  EXPECT_THAT(error_of([&] { rotated("{labels: \"M*-\", label: M}", config); }), HasSubstr("one label for each of 4"));

  json labelled = config;
  labelled["no_rope_layers"] = {1, 0, 0, 1};
  const std::string which = "{labels: {key: no_rope_layers, default: null}, label: 1, all_but_every: 4}";
  EXPECT_EQ(rotated(which, config), "1110");
  EXPECT_EQ(rotated(which, labelled), "1001") << "labels win";
  labelled["no_rope_layers"] = {1, 0};
  EXPECT_THAT(error_of([&] { rotated(which, labelled); }),
              AllOf(HasSubstr("config.json: no_rope_layers"), HasSubstr("one label for each of 4 blocks")));
}

TEST_F(ArchitectureTest, HybridsSayWhatIsWrongWithTheirBlocks) {
  json config = {{"model_type", "nemotron_h"},
                 {"vocab_size", 97},
                 {"hidden_size", 48},
                 {"num_attention_heads", 6},
                 {"num_key_value_heads", 2},
                 {"head_dim", 8},
                 {"mamba_num_heads", 8},
                 {"mamba_head_dim", 12},
                 {"n_groups", 2},
                 {"hybrid_override_pattern", "M*-"}};
  const auto error_with = [&](const std::string& key, const json& value) {
    json changed = config;
    changed[key] = value;
    return error_of([&] { load(changed); });
  };
  const Architecture model = load(config);
  ASSERT_EQ(model.blocks(), 3);
  EXPECT_EQ(model.block_linears(0)[0].name, "backbone.layers.0.mixer.in_proj");
  EXPECT_EQ(model.block_linears(0)[0].out_features, 2 * 96 + 2 * 2 * 128 + 8) << "z, x, B, C, dt";
  EXPECT_EQ(model.block_linears(1).size(), 4);
  EXPECT_THAT(
      error_with("hybrid_override_pattern", "M*x"),
      HasSubstr("hybrid_override_pattern is \"M*x\", but for block 2 a label that a step of the descriptor has"));
  EXPECT_THAT(error_with("n_groups", 3), HasSubstr("n_groups is 3, but a divisor of the 8 heads"));

  config = {{"model_type", "bamba"},    {"vocab_size", 97},       {"hidden_size", 48},
            {"intermediate_size", 80},  {"num_hidden_layers", 2}, {"num_attention_heads", 6},
            {"num_key_value_heads", 2}, {"mamba_n_heads", 8},     {"mamba_d_head", 12}};
  EXPECT_FALSE(load(config).info().blocks[1].steps[0].recurrent->dt_max);
  EXPECT_THAT(error_with("time_step_limit", {0.1, 0.2, 0.3}), HasSubstr("time_step_limit"));
  EXPECT_THAT(error_with("time_step_limit", {0.1, {{"__float__", "NaN"}}}), HasSubstr("but Infinity"));
  config["time_step_limit"] = {0.1, {{"__float__", "Infinity"}}};
  EXPECT_FALSE(load(config).info().blocks[1].steps[0].recurrent->dt_max);
  config["time_step_limit"] = {0.1, 0.2};
  EXPECT_EQ(load(config).info().blocks[1].steps[0].recurrent->dt_max, 0.2);

  config.update({{"model_type", "falcon_h1"}, {"mamba_d_head", "auto"}, {"mamba_d_ssm", 64}});
  const auto head_dim = [&] { return load(config).info().blocks[0].steps[0].recurrent->head_dim; };
  EXPECT_EQ(head_dim(), 8);
  config["mamba_d_ssm"] = nullptr;
  EXPECT_EQ(head_dim(), 12) << "twice the hidden size, in 8 heads";
  config.erase("mamba_d_ssm");
  config.erase("mamba_d_head");
  EXPECT_EQ(head_dim(), 128) << "1024 in all";
  EXPECT_THAT(error_with("mamba_d_ssm", 60), HasSubstr("mamba_n_heads is 8, but a divisor of 60"));

  config = llama_config();
  config.update({{"model_type", "smollm3"}, {"num_hidden_layers", 3}, {"no_rope_layers", {0, 2, true}}});
  std::vector<bool> rotated;
  const Architecture mixed = load(config);
  for (const BlockInfo& block : mixed.info().blocks) rotated.push_back(block.steps[0].attention->rotary.has_value());
  EXPECT_EQ(rotated, (std::vector{false, true, true})) << "as Python has it";
  EXPECT_THAT(error_with("no_rope_layers", {0, "no", 1}), HasSubstr("but an integer is expected"));
  EXPECT_THAT(error_with("no_rope_layers", {0, 1}), HasSubstr("but one label for each of 3 blocks is expected"));

  config = {{"model_type", "lfm2"}, {"num_hidden_layers", 4}, {"full_attn_idxs", {1}}};
  EXPECT_EQ(load(config).info().intermediate, 8192) << "two thirds of 12288";
  EXPECT_THAT(error_with("layer_types", {"conv", "conv"}), HasSubstr("one label for each of 4 blocks"));
  EXPECT_THAT(error_with("layer_types", {"conv", "conv", "attn", "conv"}), HasSubstr("for block 2 a label"));
}

TEST_F(ArchitectureTest, ADescriptorDeclinesWhatItWouldComputeWrongly) {
  json config = llama_config();
  config.update({{"model_type", "olmo"}, {"clip_qkv", nullptr}});
  EXPECT_EQ(load(config).family(), "olmo");
  config["clip_qkv"] = 8.0;
  EXPECT_THAT(error_of([&] { load(config); }),
              AllOf(HasSubstr("config.json: clip_qkv is set"), HasSubstr("olmo.yaml declines it"),
                    HasSubstr("set tuning.iters to 0")));
  EXPECT_THAT(error_of([&] { Architecture::load(dir_, {kShipped}, {.family = "olmo", .generic = true}); }),
              HasSubstr("declines it"));
  EXPECT_TRUE(Architecture::load(dir_, {kShipped}, {.family = "", .generic = true}).generic());
}

}  // namespace
}  // namespace roundhouse
